/* What lies where in the 128 kB SRAM of a PE. The same numbers are in ../layout.py, which documents them;
 * a test holds the two together. All words are 32 bits, little endian; all pointers are SRAM byte addresses. */
#ifndef NMC_S2_LAYOUT_H
#define NMC_S2_LAYOUT_H

#include <stdint.h>

#define DSPEC_BASE 0x2000u
#define DSPEC_MAGIC 0xAD130AD6u
#define DSPEC_VERSION 0x00020000u

enum region {
    R_CONTROL, R_GLOBAL, R_ROUTING, R_PARAMS, R_TABLE, R_INDEX, R_ROWS, R_GEOMETRY,
    R_STATE, R_RING, R_RX, R_TX, R_REC_SPIKES, R_REC_V, R_REC_PAYLOAD, N_REGIONS
};

/* Regions that the host loads and the program never writes; their checksums hold at every moment. */
#define CONSTANT_REGIONS ((1u << R_GLOBAL) | (1u << R_ROUTING) | (1u << R_PARAMS) | (1u << R_TABLE) \
    | (1u << R_INDEX) | (1u << R_ROWS) | (1u << R_GEOMETRY))

enum status { S_BOOTING, S_READY, S_BAD_MAGIC, S_BAD_CHECKSUM };
enum go { GO_RECEIVE = 1, GO_TICK = 2 };
enum model { M_IF = 1, M_STBIF, M_GRADED, M_PHASED, M_BIT_SERIAL, M_READOUT, M_LIF, M_LIF_FIXED, M_MAX_POOL, M_USER };
enum flag { F_GE = 1, F_SUBTRACT = 2, F_TO_VALUE = 4, F_MEMBRANE_FIRST = 8, F_SHAPE_LAST = 16 };
enum format { DENSE8, SPARSE16, SPARSE32, CONV };
enum record { REC_SPIKES = 1, REC_V = 2, REC_PAYLOAD = 4 };
enum mode { UNIFORM, CLASS, NEURON };

struct region_ref { uint32_t pointer, checksum, n_words; };
struct dspec { uint32_t magic, version; struct region_ref region[N_REGIONS]; };

struct control { uint32_t status, go, tick, rx_count, tx_count, unknown_keys; };

struct global {
    uint32_t model, flags, neurons, stride, types, slot_mask, entries, period;
    int32_t start, levels, open, extra;
    uint32_t record, record_ticks;
};

struct field { uint32_t pointer, mode; };
struct routing { uint32_t key_base; };
struct packet { uint32_t key; int32_t payload; };

struct entry {
    uint32_t key, mask, first, count;
    uint32_t rows;   /* dense8, sparse: first row; conv: kernel */
    uint32_t stride; /* dense8: bytes a row; sparse: pointer to count + 1 halfwords, where rows start; conv: geometry */
    uint32_t info;   /* format | delay << 8 | type << 16 */
    int32_t gain;
    uint32_t target, targets;
};

struct geometry {
    int32_t channels, width;             /* of the source box */
    int32_t c0, y0, x0;                  /* where the source box lies */
    int32_t kernel_y, kernel_x, stride_y, stride_x, pad_y, pad_x, dilation_y, dilation_x;
    int32_t ty0, ty1, tx0, tx1, tc0, tc1; /* target box */
    int32_t group_in, group_out;         /* channels of a group */
    int32_t kernel_stride;               /* bytes a kernel position */
};

#endif
