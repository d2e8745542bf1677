/* From a key in the mailbox to sums in the ring: population table, then one of four row formats.
 *
 * A sum is an int32 that wraps: the order of spikes never matters. */
#ifndef NMC_S2_ROWS_H
#define NMC_S2_ROWS_H

#include "pe.h"

/* ring[i] += gain * weight[i] for n targets; four weights a word. */
static void add_row(uint32_t *ring, const uint8_t *weights, uint32_t n, int32_t gain)
{
    const uint32_t *words = (const uint32_t *)weights;
    uint32_t *whole = ring + (n & ~3u);
    uint32_t *end = ring + n;
    if (gain == 1) {
        while (ring != whole) {
            uint32_t w = *words++;
            ring[0] += (uint32_t)(int32_t)(int8_t)w;
            ring[1] += (uint32_t)(int32_t)(int8_t)(w >> 8);
            ring[2] += (uint32_t)(int32_t)(int8_t)(w >> 16);
            ring[3] += (uint32_t)((int32_t)w >> 24);
            ring += 4;
        }
    } else {
        while (ring != whole) {
            uint32_t w = *words++;
            ring[0] += (uint32_t)(int32_t)(int8_t)w * (uint32_t)gain;
            ring[1] += (uint32_t)(int32_t)(int8_t)(w >> 8) * (uint32_t)gain;
            ring[2] += (uint32_t)(int32_t)(int8_t)(w >> 16) * (uint32_t)gain;
            ring[3] += (uint32_t)((int32_t)w >> 24) * (uint32_t)gain;
            ring += 4;
        }
    }
    for (const int8_t *rest = (const int8_t *)words; ring != end; ring++, rest++)
        *ring += (uint32_t)(int32_t)*rest * (uint32_t)gain;
}

/* Where the sums of delay field `delay` and synapse type `type` are. */
static inline uint32_t *slot_of(const struct global *g, uint32_t tick, uint32_t delay, uint32_t type)
{
    uint32_t slot = (tick + delay) & g->slot_mask;
    return AT(uint32_t, REGION(R_RING)) + (slot * g->types + type) * g->stride;
}

/* Rows that are summed before the ring is touched. A sum of so many biased bytes must fit 16 bits. */
#define AT_ONCE 32u
/* So few are added one by one. */
#define FEW 4u
#define BIAS 0x80808080u
#define EVEN 0x00FF00FFu

/* Unpack sums of biased bytes: targets 0 and 2 in the halves of `even`, 1 and 3 in those of `odd`. */
static __attribute__((noinline)) void add_sums(uint32_t *ring, uint32_t even, uint32_t odd, uint32_t bias, uint32_t gain)
{
    ring[0] += ((even & 0xFFFF) - bias) * gain;
    ring[1] += ((odd & 0xFFFF) - bias) * gain;
    ring[2] += ((even >> 16) - bias) * gain;
    ring[3] += ((odd >> 16) - bias) * gain;
}

/* ring[i] += gain * sum of weight[i] over the rows that start at `rows`, for n targets. Weights become 0..255 (their
 * sign bit flipped), so that two of them are summed in one word; what that added is taken off in the end. */
static void add_rows(uint32_t *ring, const uint32_t *rows, uint32_t count, uint32_t n, uint32_t gain)
{
    const uint32_t *end = rows + count;
    uint32_t bias = 128 * count, at = 0;
    if (count <= FEW) {
        for (; rows != end; rows++)
            add_row(ring, AT(uint8_t, *rows), n, (int32_t)gain);
        return;
    }
    for (; at + 8 <= n; at += 8) {
        uint32_t even = 0, odd = 0, more_even = 0, more_odd = 0;
        for (const uint32_t *row = rows; row != end; row++) {
            const uint32_t *w = AT(uint32_t, *row + at);
            uint32_t a = w[0] ^ BIAS, b = w[1] ^ BIAS;
            even += a & EVEN;
            odd += (a >> 8) & EVEN;
            more_even += b & EVEN;
            more_odd += (b >> 8) & EVEN;
        }
        add_sums(ring + at, even, odd, bias, gain);
        add_sums(ring + at + 4, more_even, more_odd, bias, gain);
    }
    for (; at < n; at += 4) {
        uint32_t even = 0, odd = 0, rest[4] = {0, 0, 0, 0};
        for (const uint32_t *row = rows; row != end; row++) {
            uint32_t a = *AT(uint32_t, *row + at) ^ BIAS;
            even += a & EVEN;
            odd += (a >> 8) & EVEN;
        }
        add_sums(rest, even, odd, bias, gain);
        for (uint32_t k = 0; k < 4 && at + k < n; k++)
            ring[at + k] += rest[k];
    }
}

/* The source of a packet for an entry; at least `count` where it is none of its sources. */
static inline uint32_t source_of(const struct entry *e, const struct packet *p)
{
    return (p->key & ~e->mask) - e->first;
}

/* All packets before `stop` are for `e`; spikes of both signs are gathered, from both ends of a list. */
static void dense_rows(const struct global *g, uint32_t tick, const struct entry *e, const struct packet *p,
                       const struct packet *stop)
{
    uint32_t rows[AT_ONCE], plus = 0, minus = AT_ONCE, n = e->targets, gain = (uint32_t)e->gain;
    uint32_t *ring = slot_of(g, tick, (e->info >> 8) & 7, e->info >> 16) + e->target;
    for (;; p++) {
        if (p == stop || plus == minus) {
            if (plus)
                add_rows(ring, rows, plus, n, gain);
            if (minus != AT_ONCE)
                add_rows(ring, rows + minus, AT_ONCE - minus, n, 0 - gain);
            plus = 0;
            minus = AT_ONCE;
            if (p == stop)
                return;
        }
        uint32_t source = source_of(e, p), row = e->rows + source * e->stride;
        if (source >= e->count)
            continue;
        if (p->payload == 1)
            rows[plus++] = row;
        else if (p->payload == -1)
            rows[--minus] = row;
        else
            add_row(ring, AT(uint8_t, row), n, (int32_t)(gain * (uint32_t)p->payload));
    }
}

/* Halfwords weight 4 | delay 3 | type 1 | target 8; with one synapse type, the type bit is the sign. */
static void sparse16_row(const struct global *g, uint32_t tick, const struct entry *e, uint32_t source, int32_t gain)
{
    const uint16_t *index = AT(uint16_t, e->stride) + source;
    const uint16_t *word = AT(uint16_t, e->rows) + index[0], *end = AT(uint16_t, e->rows) + index[1];
    uint32_t *ring = AT(uint32_t, REGION(R_RING));
    uint32_t mask = g->slot_mask, one = g->types == 1;
    uint32_t slots = g->types * g->stride, second = one ? 0 : g->stride, flip = one ? ~0u : 0;
    for (; word != end; word++) {
        uint32_t h = *word, typed = (uint32_t)((int32_t)(h << 23) >> 31); /* all bits are the type bit */
        uint32_t at = ((tick + ((h >> 9) & 7)) & mask) * slots + (h & 255) + (typed & second);
        uint32_t weight = ((h >> 12) ^ (typed & flip)) - (typed & flip);
        ring[at] += weight * (uint32_t)gain;
    }
}

/* Words weight 16 | delay 3 | type 1 | target 12, weight signed. */
static void sparse32_row(const struct global *g, uint32_t tick, const struct entry *e, uint32_t source, int32_t gain)
{
    const uint16_t *index = AT(uint16_t, e->stride) + source;
    const uint32_t *word = AT(uint32_t, e->rows) + index[0], *end = AT(uint32_t, e->rows) + index[1];
    uint32_t *ring = AT(uint32_t, REGION(R_RING));
    uint32_t mask = g->slot_mask, stride = g->stride, types = g->types;
    for (; word != end; word++) {
        uint32_t h = *word;
        uint32_t slot = ((tick + ((h >> 13) & 7)) & mask) * types + ((h >> 12) & 1);
        ring[slot * stride + (h & 4095)] += (uint32_t)((int32_t)h >> 16) * (uint32_t)gain;
    }
}

static inline int32_t greater(int32_t a, int32_t b) { return a > b ? a : b; }
static inline int32_t smaller(int32_t a, int32_t b) { return a < b ? a : b; }

/* One line of output positions: all x that a kernel row reaches from source column x. */
static inline void conv_line(const struct geometry *q, uint32_t *line, const uint8_t *kernel, int32_t x, uint32_t n,
                             int32_t gain)
{
    int32_t channels = q->tc1 - q->tc0;
    for (int32_t k = 0; k < q->kernel_x; k++, kernel += q->kernel_stride) {
        int32_t away = x + q->pad_x - k * q->dilation_x;
        int32_t ox = away / q->stride_x;
        if (away >= 0 && ox * q->stride_x == away && ox >= q->tx0 && ox < q->tx1)
            add_row(line + (ox - q->tx0) * channels, kernel, n, gain);
    }
}

/* A shared kernel: boxes are (y, x, channel) with the channel fastest, the kernel is [channel][ky][kx][target]. */
static void conv_row(const struct global *g, uint32_t tick, const struct entry *e, uint32_t source, int32_t gain)
{
    const struct geometry *q = AT(struct geometry, e->stride);
    uint32_t *ring = slot_of(g, tick, (e->info >> 8) & 7, e->info >> 16);
    int32_t at = (int32_t)source / q->channels, c = (int32_t)source - at * q->channels;
    int32_t row = at / q->width, x = q->x0 + at - row * q->width, y = q->y0 + row;
    int32_t group = (q->c0 + c) / q->group_in;
    int32_t low = greater(group * q->group_out, q->tc0), high = smaller((group + 1) * q->group_out, q->tc1);
    if (high <= low)
        return;
    int32_t bytes = q->kernel_x * q->kernel_stride, width = (q->tx1 - q->tx0) * (q->tc1 - q->tc0);
    const uint8_t *kernel = AT(uint8_t, e->rows) + c * q->kernel_y * bytes;
    for (int32_t k = 0; k < q->kernel_y; k++, kernel += bytes) {
        int32_t away = y + q->pad_y - k * q->dilation_y;
        int32_t oy = away / q->stride_y;
        if (away >= 0 && oy * q->stride_y == away && oy >= q->ty0 && oy < q->ty1)
            conv_line(q, ring + (oy - q->ty0) * width + (low - q->tc0), kernel, x, (uint32_t)(high - low), gain);
    }
}

/* The last entry whose key is not above `key`, -1 for none; entries are sorted by key. */
static inline int32_t find(const struct entry *table, int32_t entries, uint32_t key)
{
    int32_t low = 0, high = entries;
    while (low < high) {
        int32_t middle = (low + high) >> 1;
        if (table[middle].key <= key)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

/* All packets before `stop` are for `e`. */
static inline void one_entry(const struct global *g, uint32_t tick, const struct entry *e, const struct packet *p,
                             const struct packet *stop)
{
    if ((e->info & 255) == DENSE8) {
        dense_rows(g, tick, e, p, stop);
        return;
    }
    for (; p != stop; p++) {
        uint32_t source = source_of(e, p);
        if (source >= e->count)
            continue;
        int32_t gain = (int32_t)((uint32_t)e->gain * (uint32_t)p->payload);
        switch (e->info & 255) {
        case SPARSE16: sparse16_row(g, tick, e, source, gain); break;
        case SPARSE32: sparse32_row(g, tick, e, source, gain); break;
        case CONV: conv_row(g, tick, e, source, gain); break;
        }
    }
}

/* Empty the mailbox into the ring: packets one after the other that the same entries are for go together. */
static __attribute__((noinline)) void receive(void)
{
    struct control *c = AT(struct control, REGION(R_CONTROL));
    const struct global *g = AT(struct global, REGION(R_GLOBAL));
    const struct entry *table = AT(struct entry, REGION(R_TABLE));
    const struct packet *p = AT(struct packet, REGION(R_RX)), *end = p + c->rx_count;
    while (p != end) {
        int32_t last = find(table, (int32_t)g->entries, p->key);
        const struct packet *first = p++;
        if (last < 0 || (first->key & table[last].mask) != table[last].key) {
            c->unknown_keys++;
            continue;
        }
        uint32_t key = table[last].key, mask = table[last].mask;
        while (p != end && (p->key & mask) == key)
            p++;
        for (; last >= 0 && table[last].key == key; last--)
            one_entry(g, c->tick, &table[last], first, p);
    }
    c->rx_count = 0;
}

#endif
