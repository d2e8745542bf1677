// A C interface to the simulated top: words in, words out. The same file serves Verilator's and CXXRTL's model (with
// -DCXXRTL), and with -DMAIN makes a program (file in, file out) to compare speeds with.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#ifdef CXXRTL
#include "nmc_top.cpp"
struct Model {
    cxxrtl_design::p_nmc__top top;
    void edge(bool clk) { top.p_clk.set<bool>(clk); top.step(); }
    void reset(bool value) { top.p_rst.set<bool>(value); }
    void in(bool valid, uint32_t word) { top.p_in__valid.set<bool>(valid); top.p_in__word.set<uint32_t>(word); }
    void ready(bool value) { top.p_out__ready.set<bool>(value); }
    bool in_ready() { return top.p_in__ready.get<bool>(); }
    bool out_valid() { return top.p_out__valid.get<bool>(); }
    uint32_t out_word() { return top.p_out__word.get<uint32_t>(); }
    bool idle() { return top.p_idle.get<bool>(); }
};
#else
#include "Vnmc_top.h"
#include "Vnmc_top___024root.h"
#include "verilated.h"
// What eval() calls between locks of a queue for messages of several threads, which we have none of: after the first
// eval(), which also sets the model up, the locks are left out. They took a sixth of the time of a library.
void Vnmc_top___024root___eval(Vnmc_top___024root *root);
struct Clocked {
    VerilatedContext context;
    Vnmc_top top{&context};
    Clocked() { top.eval(); }
    void edge(bool clk) {
        top.clk = clk;
        Vnmc_top___024root___eval(top.rootp);
    }
};
#ifdef DIVIDER
using Serial = Clocked;
#else
struct Model : Clocked {
    void reset(bool value) { top.rst = value; }
    void in(bool valid, uint32_t word) { top.in_valid = valid; top.in_word = word; }
    void ready(bool value) { top.out_ready = value; }
    bool in_ready() { return top.in_ready; }
    bool out_valid() { return top.out_valid; }
    uint32_t out_word() { return top.out_word; }
    bool idle() { return top.idle; }
};
#endif
#endif

extern "C" {

#ifdef DIVIDER
// Serial line: send bytes, collect what comes until the line has been silent for 200 bit times. A `gap` of that many
// bit times is put after byte `gap_at`.
int64_t nmc_serial(void *handle, const uint8_t *bytes, int64_t count, uint8_t *answers, int64_t room, int64_t gap_at,
                   int64_t gap) {
    Serial &model = *static_cast<Serial *>(handle);
    int64_t sent = 0, given = 0, silence = 0, clock = 0, tx_clock = -1;
    unsigned bits = 1, octet = 0;
    int left = 0;
    while (silence < 200 * DIVIDER) {
        if (clock % DIVIDER == 0) {
            if (gap > 0 && sent == gap_at && left == 0) {
                gap--;
                bits = 1;
            } else if (left == 0 && sent < count) {
                bits = 0x200u | unsigned(bytes[sent++]) << 1;
                left = 10;
            } else {
                bits = bits >> 1 | 0x200u;
            }
            if (left > 0) left--;
        }
        model.top.rx = bits & 1;
        model.edge(false);
        model.edge(true);
        clock++;
        silence++;
        if (sent < count || left > 0 || gap > 0) silence = 0;
        if (tx_clock < 0) {
            if (!model.top.tx) tx_clock = 0;
        } else {
            tx_clock++;
            silence = 0;
            if (tx_clock % DIVIDER == DIVIDER / 2) {
                const int bit = int(tx_clock / DIVIDER);
                if (bit >= 1 && bit <= 8) octet = octet >> 1 | unsigned(model.top.tx) << 7;
                if (bit == 9) {
                    if (given < room) answers[given++] = uint8_t(octet);
                    tx_clock = -1;
                }
            }
        }
    }
    return given;
}

void *nmc_new() {
    Serial *model = new Serial;
    model->top.rst = 1;
    model->top.rx = 1;
    for (int k = 0; k < 4; k++) {
        model->edge(false);
        model->edge(true);
    }
    model->top.rst = 0;
    return model;
}

void nmc_free(void *model) { delete static_cast<Serial *>(model); }
#else
void *nmc_new() {
    Model *model = new Model;
    model->reset(true);
    model->in(false, 0);
    model->ready(false);
    for (int k = 0; k < 4; k++) {
        model->edge(false);
        model->edge(true);
    }
    model->reset(false);
    model->edge(false);
    return model;
}

void nmc_free(void *model) { delete static_cast<Model *>(model); }

// Feed `count` words and run until all are taken and nothing moves, `room` words have come, or `cycles` are over.
// With `shake` != 0 both sides of both handshakes are interrupted at random. Gives 0 done, 1 no room, 2 out of time.
int nmc_run(void *handle, const uint32_t *words, int64_t count, int64_t *taken, uint32_t *answers, int64_t room,
            int64_t *given, int64_t *cycles, uint32_t shake) {
    Model &model = *static_cast<Model *>(handle);
    int64_t in = 0, out = 0, spent = 0;
    int result = 2;
    bool offered = false;
    for (; spent < *cycles; spent++) {
        if (shake) {
            shake ^= shake << 13;
            shake ^= shake >> 17;
            shake ^= shake << 5;
        }
        const bool valid = in < count && (offered || !(shake & 3));
        const bool ready = !(shake >> 8 & 1);
        model.in(valid, valid ? words[in] : 0);
        model.ready(ready);
        model.edge(false);
        if (in == count && model.idle() && !model.out_valid()) {
            result = 0;
            break;
        }
        if (ready && model.out_valid()) {
            if (out == room) {
                result = 1;
                model.ready(false);
                model.in(false, 0);
                break;
            }
            answers[out++] = model.out_word();
        }
        const bool took = valid && model.in_ready();
        model.edge(true);
        offered = valid && !took;
        if (took) in++;
    }
    *taken = in;
    *given = out;
    *cycles = spent;
    return result;
}
#endif
}

#ifdef MAIN
int main(int argc, char **argv) {
    if (argc != 3) return 2;
    FILE *file = fopen(argv[1], "rb");
    if (!file) return 2;
    std::vector<uint32_t> words;
    uint32_t word;
    while (fread(&word, 4, 1, file) == 1) words.push_back(word);
    fclose(file);
    void *model = nmc_new();
    std::vector<uint32_t> answers(1 << 24);
    int64_t taken, given, cycles = INT64_MAX;
    const int result = nmc_run(model, words.data(), words.size(), &taken, answers.data(), answers.size(), &given, &cycles, 0);
    file = fopen(argv[2], "wb");
    fwrite(answers.data(), 4, given, file);
    fclose(file);
    nmc_free(model);
    return result;
}
#endif
