/* One tick of a model that the network's user wrote: instructions that are data; ../machine.py says the same in numpy.
 *
 * Every value is a row of LANES words, one a neuron of the block that is worked on. A table tells where the row of each
 * operand is: the current, the states (rows of the region), parameters, constants, registers. Instructions go forward
 * only, and load.py has checked their operands. Floats are IEEE single, every operation rounded; what is no number is
 * always NOT_A_NUMBER, so that all engines hold the same bits. */
#ifndef NMC_S2_USER_H
#define NMC_S2_USER_H

#include "tick.h"

#define LANES 16u
#define NOT_A_NUMBER 0x7FC00000u

/* Begins the region params; then the instructions, the constants, a struct field for each parameter and for the scale
 * and the bias of the current, and their values. `arithmetic`: 0 for floats, or 1 | whole << 8 | part << 16. */
struct user { uint32_t states, params, constants, registers, length, fire, arithmetic, shift; };
/* op | to << 8 | c << 20, a | b << 16 */
struct instruction { uint32_t head, operands; };
enum op {
    O_ADD, O_SUB, O_MUL, O_DIV, O_MIN, O_MAX, O_NEG, O_ABS, O_FLOOR, O_LT, O_LE, O_GT, O_GE, O_EQ, O_NE, O_COPY, O_AND,
    O_OR, O_NOT, O_SELECT
};

/* What an instruction works on: rows, and how many neurons. */
struct work { uint32_t *to; const uint32_t *a, *b, *c; uint32_t lanes, part; int32_t most; };

/* Pointers in registers: what is stored could otherwise be them. */
#define OPEN uint32_t *const to = w->to, *const end = to + w->lanes, *at; const uint32_t *a = w->a, *b = w->b
#define LANE(number) for (at = to; at != end; at++, a++, b++) *at = (number)
#define FA as_float(*a)
#define FB as_float(*b)
#define IA ((int32_t)*a)
#define IB ((int32_t)*b)

ALWAYS uint32_t known(float value) { return value == value ? as_bits(value) : NOT_A_NUMBER; }

/* Numbers from 2^23 on are whole; smaller ones fit an int32. -0 stays what it is. */
ALWAYS uint32_t floor_of(uint32_t bits)
{
    float x = as_float(bits), whole;
    if (x != x)
        return NOT_A_NUMBER;
    if ((bits << 1) >= 0x96000000u)
        return bits;
    whole = (float)(int32_t)x;
    return whole == x ? bits : as_bits(whole > x ? whole - 1.0f : whole);
}

/* The smaller or larger of two, the second where they are equal; no number where one of them is none. */
ALWAYS uint32_t first_of(float a, float b, int first) { return first ? as_bits(a) : a == a ? known(b) : NOT_A_NUMBER; }

static __attribute__((noinline)) void float_op(const struct work *w, uint32_t op)
{
    OPEN;
    switch (op) {
    case O_ADD: LANE(known(FA + FB)); break;
    case O_SUB: LANE(known(FA - FB)); break;
    case O_MUL: LANE(known(FA * FB)); break;
    case O_DIV: LANE(known(FA / FB)); break;
    case O_MIN: LANE(first_of(FA, FB, FA < FB)); break;
    case O_MAX: LANE(first_of(FA, FB, FA > FB)); break;
    case O_NEG: LANE(FA == FA ? *a ^ 0x80000000u : NOT_A_NUMBER); break;
    case O_ABS: LANE(*a & 0x7FFFFFFFu); break;
    case O_FLOOR: LANE(floor_of(*a)); break;
    case O_LT: LANE(FA < FB); break;
    case O_LE: LANE(FA <= FB); break;
    case O_GT: LANE(FA > FB); break;
    case O_GE: LANE(FA >= FB); break;
    case O_EQ: LANE(FA == FB); break;
    case O_NE: LANE(FA != FB); break;
    }
}

ALWAYS uint32_t cut(int64_t raw, int32_t most)
{
    return (uint32_t)(raw > most ? most : raw < -most - 1 ? -most - 1 : (int32_t)raw);
}

ALWAYS uint32_t size_of(int32_t a) { return a < 0 ? 0 - (uint32_t)a : (uint32_t)a; }

/* a / b with `part` bits behind the point, rounded towards minus infinity; a / 0 is the largest number of a's sign. */
static __attribute__((noinline)) uint32_t divided(int32_t a, int32_t b, uint32_t part, int32_t most)
{
    uint64_t whole = (uint64_t)size_of(a) << part;
    uint32_t divisor = size_of(b), rest = (uint32_t)(whole >> 31), quotient = 0, negative = (a ^ b) < 0;
    if (b == 0)
        return cut(a == 0 ? 0 : a > 0 ? most : -(int64_t)most - 1, most);
    if ((whole >> 31) >= divisor) /* 2^31 or more */
        return cut(negative ? INT32_MIN : INT32_MAX, most);
    for (uint32_t bit = 31; bit--;) {
        rest = rest << 1 | ((uint32_t)whole >> bit & 1);
        quotient <<= 1;
        if (rest >= divisor) {
            rest -= divisor;
            quotient |= 1;
        }
    }
    return cut(negative ? -(int64_t)quotient - (rest != 0) : (int64_t)quotient, most);
}

static __attribute__((noinline)) void fixed_op(const struct work *w, uint32_t op)
{
    OPEN;
    uint32_t part = w->part;
    int32_t most = w->most;
    switch (op) {
    case O_ADD: LANE(cut((int64_t)IA + IB, most)); break;
    case O_SUB: LANE(cut((int64_t)IA - IB, most)); break;
    case O_MUL: LANE(cut(((int64_t)IA * IB) >> part, most)); break;
    case O_DIV: LANE(divided(IA, IB, part, most)); break;
    case O_MIN: LANE((uint32_t)(IA < IB ? IA : IB)); break;
    case O_MAX: LANE((uint32_t)(IA > IB ? IA : IB)); break;
    case O_NEG: LANE(cut(-(int64_t)IA, most)); break;
    case O_ABS: LANE(cut((int64_t)size_of(IA), most)); break;
    case O_FLOOR: LANE(*a >> part << part); break;
    case O_LT: LANE(IA < IB); break;
    case O_LE: LANE(IA <= IB); break;
    case O_GT: LANE(IA > IB); break;
    case O_GE: LANE(IA >= IB); break;
    case O_EQ: LANE(IA == IB); break;
    case O_NE: LANE(IA != IB); break;
    }
}

/* What is the same for all numbers. */
static __attribute__((noinline)) void plain_op(const struct work *w, uint32_t op)
{
    OPEN;
    const uint32_t *c = w->c;
    switch (op) {
    case O_COPY: LANE(*a); break;
    case O_AND: LANE(*a & *b); break;
    case O_OR: LANE(*a | *b); break;
    case O_NOT: LANE(*a ^ 1); break;
    case O_SELECT: LANE(*c++ ? *a : *b); break;
    }
}

/* Currents of the block from neuron `first` on; their slot is emptied. */
SMALL void open_current(struct tick *s, const struct user *u, const struct field *f, uint32_t *row, uint32_t first,
                        uint32_t lanes)
{
    const uint32_t *scale = AT(uint32_t, f[0].pointer), *bias = AT(uint32_t, f[1].pointer);
    int32_t most = (int32_t)((1u << ((u->arithmetic >> 8 & 31) + (u->arithmetic >> 16))) - 1);
    for (uint32_t i = first; i < first + lanes; i++, row++) {
        int32_t sum = (int32_t)take(s->ring, i);
        uint32_t each = scale[f[0].mode == NEURON ? i : 0], more = bias[f[1].mode == NEURON ? i : 0];
        if (u->arithmetic)
            *row = cut(((int64_t)sum * (int32_t)each >> u->shift) + (int32_t)more, most);
        else
            *row = as_bits((float)sum * as_float(each) + as_float(more));
    }
}

/* The table for the first block; rows of constants and of parameters that all share are filled. */
SMALL void open_table(const struct user *u, const struct field *f, uint32_t *table, uint32_t rows, uint32_t neurons)
{
    const uint32_t *constant = (const uint32_t *)f - u->constants;
    uint32_t values = 1 + u->states + u->params + u->constants + u->registers;
    for (uint32_t x = 0; x < values; x++) {
        uint32_t number = x - 1, word = 0;
        table[x] = rows;
        if (x == 0) {
            rows += 4 * LANES;
            continue;
        }
        if (number < u->states) {
            table[x] = REGION(R_STATE) + 4 * number * neurons;
            continue;
        }
        number -= u->states;
        if (number < u->params) {
            if (f[number].mode == NEURON) {
                table[x] = f[number].pointer;
                continue;
            }
            word = *AT(uint32_t, f[number].pointer);
        } else if (number - u->params < u->constants) {
            word = constant[number - u->params];
        }
        for (uint32_t k = 0; k < LANES; k++, rows += 4)
            *AT(uint32_t, rows) = word;
    }
}

/* Rows that are a part of a longer one move on to the next block. */
SMALL void next_block(const struct user *u, const struct field *f, uint32_t *table)
{
    for (uint32_t k = 0; k < u->states; k++)
        table[1 + k] += 4 * LANES;
    for (uint32_t k = 0; k < u->params; k++)
        if (f[k].mode == NEURON)
            table[1 + u->states + k] += 4 * LANES;
}

static __attribute__((noinline)) void run_code(const struct user *u, const struct instruction *code,
                                               const uint32_t *table, uint32_t lanes)
{
    struct work w;
    w.lanes = lanes;
    w.part = u->arithmetic >> 16;
    w.most = (int32_t)((1u << ((u->arithmetic >> 8 & 31) + w.part)) - 1);
    for (const struct instruction *end = code + u->length; code != end; code++) {
        uint32_t head = code->head, operands = code->operands, op = head & 255;
        w.to = AT(uint32_t, table[head >> 8 & 4095]);
        w.a = AT(uint32_t, table[operands & 0xFFFF]);
        w.b = AT(uint32_t, table[operands >> 16]);
        w.c = AT(uint32_t, table[head >> 20]);
        if (op >= O_COPY)
            plain_op(&w, op);
        else if (u->arithmetic)
            fixed_op(&w, op);
        else
            float_op(&w, op);
    }
}

static void step_neurons(struct tick *s)
{
    const struct user *u = AT(struct user, REGION(R_PARAMS));
    const struct instruction *code = (const struct instruction *)(u + 1);
    const struct field *f = (const struct field *)((const uint32_t *)(code + u->length) + u->constants);
    uint32_t at = REGION(R_TX) + 8 * s->n, *table = AT(uint32_t, at);
    if (!s->running) { /* before its start nothing of a model moves, and what comes is lost */
        for (uint32_t i = 0; i < s->n; i++)
            s->ring[i] = 0;
        return;
    }
    open_table(u, f, table, at + 4 * (1 + u->states + u->params + u->constants + u->registers), s->n);
    for (uint32_t i = 0; i < s->n; i += LANES) {
        uint32_t lanes = s->n - i < LANES ? s->n - i : LANES;
        open_current(s, u, f + u->params, AT(uint32_t, table[0]), i, lanes);
        run_code(u, code, table, lanes);
        if (u->fire)
            for (uint32_t k = 0; k < lanes; k++)
                if (AT(uint32_t, table[u->fire])[k])
                    send(s, i + k, 1);
        next_block(u, f, table);
    }
}

#endif
