/* The program of every PE: one text, whatever network; all differences are data. With -DUSER it has the models of the
 * network's user (user.h) in place of the built-in ones: both together are more than 8 kB.
 *
 * The host (the chip's timer and network, emulated) writes spikes into the mailbox and says in `go` what to do;
 * the program does it and sleeps. With -DHOST the same code works on an array that holds the SRAM. */
#include "layout.h"
#include "pe.h"
#include "rows.h"
#ifdef USER
#include "user.h"
#else
#include "neurons.h"

static int32_t shares_nothing(const struct field *f) { return f->mode == UNIFORM; }

SMALL void open_fields(struct tick *s)
{
    const struct field *f = AT(struct field, REGION(R_PARAMS));
    s->uniform = 1;
    for (uint32_t k = 0; k < MAX_FIELDS; k++, f++) {
        s->field[k].values = AT(uint32_t, f->pointer);
        s->field[k].by_neuron = f->mode == NEURON ? ~0u : 0;
        s->field[k].by_class = f->mode == CLASS ? ~0u : 0;
        if (!shares_nothing(f))
            s->uniform = 0;
    }
}
#endif

SMALL void open_records(struct tick *s, uint32_t tick)
{
    const struct global *g = s->g;
    int inside = tick < g->record_ticks;
    s->spikes = inside && (g->record & REC_SPIKES)
        ? AT(uint32_t, REGION(R_REC_SPIKES)) + tick * ((g->neurons + 31) / 32) : 0;
    s->v = inside && (g->record & REC_V) ? AT(uint32_t, REGION(R_REC_V)) + tick * g->neurons : 0;
    s->payloads = inside && (g->record & REC_PAYLOAD)
        ? AT(uint32_t, REGION(R_REC_PAYLOAD)) + tick * g->neurons : 0;
}

static __attribute__((noinline)) void end_of_tick(void)
{
    struct tick s;
    s.control = AT(struct control, REGION(R_CONTROL));
    s.g = AT(struct global, REGION(R_GLOBAL));
    s.routing = AT(struct routing, REGION(R_ROUTING));
    s.tx = AT(struct packet, REGION(R_TX));
    s.state = AT(uint32_t, REGION(R_STATE));
    s.n = s.g->neurons;
    uint32_t tick = s.control->tick;
    s.ring = slot_of(s.g, tick, 0, 0);
    s.now = (int32_t)tick - s.g->start;
    s.running = s.now >= 0;
    s.control->tx_count = 0;
#ifndef USER
    open_fields(&s);
#endif
    open_records(&s, tick);
    step_neurons(&s);
    if (s.v)
        for (uint32_t i = 0; i < s.n; i++)
            s.v[i] = s.state[i];
    s.control->tick = tick + 1;
}

static void wake(void)
{
    struct control *c = AT(struct control, REGION(R_CONTROL));
    if (c->status != S_READY)
        return;
    if (c->go & GO_RECEIVE)
        receive();
    if (c->go & GO_TICK)
        end_of_tick();
    c->go = 0;
}

/* Check what was loaded: magic, version, and the checksum (sum of words) of every region that never changes. */
SMALL void boot(void)
{
    const struct dspec *d = DSPEC;
    struct control *c = AT(struct control, d->region[R_CONTROL].pointer);
    uint32_t status = d->magic == DSPEC_MAGIC && d->version == DSPEC_VERSION ? S_READY : S_BAD_MAGIC;
    for (uint32_t k = 0; k < N_REGIONS && status == S_READY; k++) {
        uint32_t sum = 0;
        const uint32_t *word = AT(uint32_t, d->region[k].pointer);
        if (!(CONSTANT_REGIONS >> k & 1))
            continue;
        for (uint32_t i = 0; i < d->region[k].n_words; i++)
            sum += word[i];
        if (sum != d->region[k].checksum)
            status = S_BAD_CHECKSUM;
    }
    c->status = status;
}

#ifdef HOST

void nmc_s2_boot(uint8_t *memory)
{
    sram = memory;
    boot();
}

void nmc_s2_wake(uint8_t *memory)
{
    sram = memory;
    wake();
}

#else

__attribute__((noreturn, used)) void reset_handler(void)
{
    boot();
    for (;;) {
        __asm__ volatile("wfi" ::: "memory");
        wake();
    }
}

extern uint32_t stack_top[];

__attribute__((section(".vectors"), used)) static const void *const vectors[2] = {
    stack_top, (const void *)reset_handler
};

#endif
