/* One tick of every neuron model; the equations are those of ../laws.py, in the same order of operations.
 *
 * Integers wrap at 32 bits. Floats are IEEE single with every operation rounded (-ffp-contract=off). */
#ifndef NMC_S2_NEURONS_H
#define NMC_S2_NEURONS_H

#include "tick.h"

#define P(number) (uniform ? all[number] : get(s, number, i, c))
#define PF(number) as_float(P(number))
/* What all neurons share, read once where they share everything. */
#define SHARED uint32_t all[MAX_FIELDS]; \
    if (uniform) { for (uint32_t k = 0; k < MAX_FIELDS; k++) all[k] = s->field[k].values[0]; }
/* The neuron `i` of class `c`, in a loop over all of them. */
#define EACH SHARED for (uint32_t i = 0, c = 0, period = s->g->period; i < s->n; i++, c = c + 1 == period ? 0 : c + 1)

ALWAYS int32_t floor_div(int32_t a, int32_t b) /* b > 0 */
{
    int32_t q = a / b;
    return q * b > a ? q - 1 : q;
}

ALWAYS int32_t clip(int32_t a, int32_t high) { return a < 0 ? 0 : a > high ? high : a; }

/* fields: bias, threshold, v_reset, refractory; state: v, refractory */
ALWAYS void step_if(struct tick *s, int uniform)
{
    uint32_t flags = s->g->flags, n = s->n, resets = flags & (F_SUBTRACT | F_TO_VALUE);
    EACH {
        uint32_t v = s->state[i] + take(s->ring, i) + (s->running ? P(0) : 0), wait = s->state[n + i];
        int32_t high = (int32_t)P(1);
        int fired = (flags & F_GE) ? (int32_t)v >= high : (int32_t)v > high;
        if (wait && resets) {
            v = P(2);
            wait--;
        } else if (fired && resets) {
            v = (flags & F_SUBTRACT) ? v - (uint32_t)high : P(2);
            wait = P(3);
            send(s, i, 1);
        }
        s->state[i] = v;
        s->state[n + i] = wait;
    }
}

/* What the bias b adds at tick `now` of `over`: floor((now + 1) b / over) - floor(now b / over). */
ALWAYS uint32_t share(int32_t b, int32_t tick, int32_t over)
{
    int32_t whole = floor_div(b, over);
    uint32_t now = (uint32_t)tick, rest = (uint32_t)(b - whole * over);
    return (uint32_t)whole + (now + 1) * rest / (uint32_t)over - now * rest / (uint32_t)over;
}

/* fields: theta, offset; state: v, count; extra: ticks over which the bias enters (0: it is in the first v) */
ALWAYS void step_stbif(struct tick *s, int uniform)
{
    uint32_t n = s->n;
    int32_t levels = s->g->levels, over = s->g->extra;
    EACH {
        int32_t theta = (int32_t)P(0), count = (int32_t)s->state[n + i], sign = 0;
        uint32_t v = s->state[i] + take(s->ring, i);
        if (s->running && s->now < over)
            v += share((int32_t)P(1) - theta / 2, s->now, over);
        if (s->running && (int32_t)v >= theta && count < levels)
            sign = 1;
        else if (s->running && (int32_t)v < 0 && count > 0)
            sign = -1;
        if (sign) {
            v -= (uint32_t)(sign * theta);
            s->state[n + i] = (uint32_t)(count + sign);
            send(s, i, sign);
        }
        s->state[i] = v;
    }
}

/* fields: theta; state: v (from the offset on), count */
SMALL void step_graded(struct tick *s)
{
    const int uniform = 0;
    uint32_t n = s->n;
    int32_t levels = s->g->levels;
    EACH {
        uint32_t v = s->state[i] + take(s->ring, i);
        int32_t before = (int32_t)s->state[n + i], count = before;
        if (s->running)
            count = clip(floor_div((int32_t)v, (int32_t)P(0)), levels);
        s->state[i] = v;
        s->state[n + i] = (uint32_t)count;
        if (count != before)
            send(s, i, count - before);
    }
}

/* fields: theta; state: v; fires in ticks open <= now < open + levels only */
static void step_phased(struct tick *s)
{
    const int uniform = 0;
    int window = s->now >= s->g->open && s->now - s->g->open < s->g->levels;
    EACH {
        uint32_t v = s->state[i] + take(s->ring, i), theta = P(0);
        if (window && (int32_t)v >= (int32_t)theta) {
            v -= theta;
            send(s, i, 1);
        }
        s->state[i] = v;
    }
}

/* fields: theta, offset; state: v (from the offset on, what has come doubles every tick), count; extra: bits */
static void step_bit_serial(struct tick *s)
{
    const int uniform = 0;
    uint32_t n = s->n, bits = (uint32_t)s->g->extra;
    int doubling = s->now < s->g->open;
    uint32_t since = (uint32_t)(s->now - s->g->open);
    int sending = !doubling && since < bits;
    EACH {
        uint32_t x = take(s->ring, i), v = s->state[i];
        if (doubling)
            s->state[i] = 2 * v + x - P(1);
        if (sending && since == 0)
            s->state[n + i] = (uint32_t)clip(floor_div((int32_t)v, (int32_t)P(0)), s->g->levels);
        if (sending && (s->state[n + i] >> (bits - 1 - since) & 1))
            send(s, i, 1);
    }
}

/* fields: offset; state: v (from the offset on); extra: ticks in which what has come doubles, 0 for a plain sum */
static void step_readout(struct tick *s)
{
    const int uniform = 0;
    int plain = s->g->extra == 0, doubling = s->now < s->g->extra;
    EACH {
        uint32_t before = s->state[i], v = before + take(s->ring, i);
        s->state[i] = plain ? v : doubling ? v + before - P(0) : before;
    }
}

/* fields: scale, bias, alpha, beta, gain, leak, threshold, v_reset, refractory, scale and alpha of type 1;
 * state: v, refractory, current of type 0 (and 1) */
ALWAYS void step_lif(struct tick *s, int uniform)
{
    uint32_t flags = s->g->flags, n = s->n, two = s->g->types == 2;
    uint32_t *current = s->state + 2 * n, *second = current + n;
    EACH {
        float bias = s->running ? PF(1) : 0.0f, leak = s->running ? PF(5) : 0.0f;
        float old = as_float(current[i]);
        float now = ((float)(int32_t)take(s->ring, i) * PF(0) + bias) + PF(2) * old;
        current[i] = as_bits(now);
        if (two) {
            float before = as_float(second[i]);
            float after = (float)(int32_t)take(s->ring + s->g->stride, i) * PF(9) + PF(10) * before;
            second[i] = as_bits(after);
            old = old + before;
            now = now + after;
        }
        float drive = (flags & F_MEMBRANE_FIRST) ? old : now, high = PF(6);
        float v = (PF(3) * as_float(s->state[i]) + PF(4) * drive) + leak;
        uint32_t wait = s->state[n + i];
        if (flags & (F_SUBTRACT | F_TO_VALUE)) {
            int fired = (flags & F_GE) ? v >= high : v > high;
            if (wait) {
                v = PF(7);
                wait--;
            } else if (fired) {
                v = (flags & F_SUBTRACT) ? v - high : PF(7);
                wait = P(8);
                send(s, i, 1);
            }
        }
        s->state[i] = as_bits(v);
        s->state[n + i] = wait;
    }
}

/* The same where all neurons share everything, one synapse type, no bias, gain 1 and no leak, synapse first: 3 of 10
 * operations less. The same bits, too: with a scale that is positive and normal, the product with a sum is never -0,
 * so neither is the current, nor the sum with a current; adding +0 changes nothing but -0. */
ALWAYS int is_lean(const struct tick *s)
{
    uint32_t scale = get(s, 0, 0, 0);
    return s->uniform && s->g->types == 1 && !(s->g->flags & F_MEMBRANE_FIRST) && scale >= 0x00800000u
        && scale < 0x7F800000u && get(s, 1, 0, 0) == 0 && get(s, 5, 0, 0) == 0 && get(s, 4, 0, 0) == 0x3F800000u;
}

static void step_lean_lif(struct tick *s)
{
    uint32_t flags = s->g->flags, n = s->n, fires = flags & (F_SUBTRACT | F_TO_VALUE), refractory = get(s, 8, 0, 0);
    float scale = as_float(get(s, 0, 0, 0)), alpha = as_float(get(s, 2, 0, 0)), beta = as_float(get(s, 3, 0, 0));
    float high = as_float(get(s, 6, 0, 0)), low = as_float(get(s, 7, 0, 0));
    uint32_t *state = s->state, *ring = s->ring, *end = state + n;
    for (; state != end; state++, ring++) {
        float now = (float)(int32_t)take(ring, 0) * scale + alpha * as_float(state[2 * n]);
        state[2 * n] = as_bits(now);
        float v = beta * as_float(state[0]) + now;
        if (fires) {
            uint32_t wait = state[n];
            int fired = (flags & F_GE) ? v >= high : v > high;
            if (wait) {
                v = low;
                state[n] = wait - 1;
            } else if (fired) {
                v = (flags & F_SUBTRACT) ? v - high : low;
                state[n] = refractory;
                send(s, (uint32_t)(state - s->state), 1);
            }
        }
        state[0] = as_bits(v);
    }
}

/* s16.15 product: (p >> 15) plus its bit 14, saturated (spinn_common round.h:680, stdfix-full-iso.h:1929). */
ALWAYS int32_t product(int32_t a, int32_t b)
{
    int64_t p = (int64_t)a * b, r = (p >> 15) + (p >> 14 & 1);
    return r > INT32_MAX ? INT32_MAX : r < INT32_MIN ? INT32_MIN : (int32_t)r;
}

/* s16.15 times u0.32, rounded down (sPyNNaker decay.h). */
ALWAYS uint32_t decayed(uint32_t value, uint32_t factor)
{
    return (uint32_t)(((int64_t)(int32_t)value * (uint64_t)factor) >> 32);
}

/* A uint16 ring that saturates, then shifted to s16.15. */
ALWAYS uint32_t saturated(uint32_t sum, uint32_t shift)
{
    return (uint32_t)clip((int32_t)sum, 0xFFFF) << (shift & 31);
}

/* fields: decay and shift of type 0, of type 1, i_offset, r, v_rest, exp_tc, threshold, v_reset, refractory;
 * state: v, refractory, current of type 0 (and 1) */
ALWAYS void step_lif_fixed(struct tick *s, int uniform)
{
    uint32_t flags = s->g->flags, n = s->n, two = s->g->types == 2;
    uint32_t *current = s->state + 2 * n, *second = current + n;
    EACH {
        uint32_t fresh = saturated(take(s->ring, i), P(1)), total = 0;
        uint32_t a = (flags & F_SHAPE_LAST) ? current[i] + fresh : decayed(current[i], P(0)) + fresh;
        current[i] = (flags & F_SHAPE_LAST) ? decayed(a, P(0)) : a;
        if (two) {
            uint32_t more = saturated(take(s->ring + s->g->stride, i), P(3));
            uint32_t b = (flags & F_SHAPE_LAST) ? second[i] + more : decayed(second[i], P(2)) + more;
            second[i] = (flags & F_SHAPE_LAST) ? decayed(b, P(2)) : b;
            total = b;
        }
        total = a - total + P(4);
        if (s->state[n + i]) {
            s->state[n + i]--;
        } else {
            uint32_t goal = (uint32_t)product((int32_t)total, (int32_t)P(5)) + P(6);
            uint32_t v = goal - (uint32_t)product((int32_t)P(7), (int32_t)(goal - s->state[i]));
            if ((int32_t)v >= (int32_t)P(8)) {
                v = P(9);
                s->state[n + i] = P(10);
                send(s, i, 1);
            }
            s->state[i] = v;
        }
    }
}

SMALL void step_mixed_fixed(struct tick *s) { step_lif_fixed(s, 0); }

/* fields: none; state: v (the maximum), then the count of each tap; one synapse type a tap of the window */
ALWAYS void step_max_pool(struct tick *s)
{
    uint32_t n = s->n, taps = s->g->types, stride = s->g->stride;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t *count = s->state + n + i, *ring = s->ring;
        int32_t most = INT32_MIN;
        for (uint32_t k = 0; k < taps; k++, count += n, ring += stride) {
            *count += take(ring, i);
            if ((int32_t)*count > most)
                most = (int32_t)*count;
        }
        uint32_t change = (uint32_t)most - s->state[i];
        s->state[i] = (uint32_t)most;
        if (change)
            send(s, i, (int32_t)change);
    }
}

#define CASE(number, step) case number: if (s->uniform) step(s, 1); else step(s, 0); break;
#define ONCE(number, step) case number: step(s); break;

static void step_neurons(struct tick *s)
{
    switch (s->g->model) {
    CASE(M_IF, step_if)
    CASE(M_STBIF, step_stbif)
    case M_LIF: if (is_lean(s)) step_lean_lif(s); else if (s->uniform) step_lif(s, 1); else step_lif(s, 0); break;
    ONCE(M_GRADED, step_graded)
    ONCE(M_PHASED, step_phased)
    ONCE(M_BIT_SERIAL, step_bit_serial)
    ONCE(M_READOUT, step_readout)
    case M_LIF_FIXED: if (s->uniform) step_lif_fixed(s, 1); else step_mixed_fixed(s); break;
    ONCE(M_MAX_POOL, step_max_pool)
    }
}

#endif
