/* How the program reaches its SRAM: at address 0 on the PE, in an array on the host. */
#ifndef NMC_S2_PE_H
#define NMC_S2_PE_H

#include "layout.h"

#ifdef HOST
static _Thread_local uint8_t *sram;
#define AT(type, address) ((type *)(sram + (address)))
#else
#define AT(type, address) ((type *)(uintptr_t)(address))
#endif

/* What is seldom run, or not long: for size. The host's compiler need not know of it. */
#if defined(HOST) || defined(__clang__)
#define SMALL static
#else
#define SMALL static __attribute__((noinline, optimize("Os")))
#endif

#define DSPEC AT(struct dspec, DSPEC_BASE)
#define REGION(number) (DSPEC->region[number].pointer)

#endif
