/* What a tick of any neuron model works on: parameters, sums, what is sent and recorded. */
#ifndef NMC_S2_TICK_H
#define NMC_S2_TICK_H

#include "pe.h"

#define MAX_FIELDS 11
#define ALWAYS static inline __attribute__((always_inline))

/* A parameter: one for all, one a class (index modulo the period) or one a neuron. */
struct reader { const uint32_t *values; uint32_t by_neuron, by_class; };

struct tick {
    const struct global *g;
    const struct routing *routing;
    struct control *control;
    struct packet *tx;
    uint32_t *state, *ring, *spikes, *v, *payloads; /* the last three are 0 where nothing is recorded */
    uint32_t n;
    int32_t now;     /* ticks since `start`, negative before it */
    int32_t running; /* whether `start` has come */
    uint32_t uniform;
    struct reader field[MAX_FIELDS];
};

ALWAYS uint32_t get(const struct tick *s, uint32_t number, uint32_t i, uint32_t c)
{
    const struct reader *f = &s->field[number];
    return f->values[(i & f->by_neuron) | (c & f->by_class)];
}

ALWAYS float as_float(uint32_t bits) { union { uint32_t u; float f; } u = { bits }; return u.f; }
ALWAYS uint32_t as_bits(float value) { union { float f; uint32_t u; } u = { value }; return u.u; }

ALWAYS void send(struct tick *s, uint32_t i, int32_t payload)
{
    struct packet *p = &s->tx[s->control->tx_count++];
    p->key = s->routing->key_base + i;
    p->payload = payload;
    if (s->spikes)
        s->spikes[i >> 5] |= 1u << (i & 31);
    if (s->payloads)
        s->payloads[i] = (uint32_t)payload;
}

/* Sum of type 0 (or 1) for neuron i; the slot is emptied for the tick that uses it next. */
ALWAYS uint32_t take(uint32_t *ring, uint32_t i)
{
    uint32_t x = ring[i];
    ring[i] = 0;
    return x;
}

#endif
