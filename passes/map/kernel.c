/* What mapping needs to be quick: annealing of a placement, and the search for a memory allocation.
 *
 * Integers only, a counter-based generator and a given number of steps: the twins (twin.py, packing.py, heap.py) make the
 * same decisions on every machine, so that a compiler is a matter of speed alone. They and this file must be
 * changed together; tests/map/test_kernel.py, test_memory.py and test_heap.py compare them.
 */

/* Simulated annealing: parts exchange sites, or move to empty ones. */
#include <stdint.h>
#include <string.h>

typedef struct {
    int64_t sites, parts, movable, width, height, near_count, near_radius;
    int64_t stages, steps, shift, exact_best;
    uint64_t seed;
    const int64_t *start;    /* parts + 1: partners of part i are start[i] .. start[i + 1] - 1 */
    const int32_t *partner;
    const int64_t *weight;
    const int32_t *free;     /* movable parts */
    const int32_t *xs, *ys;  /* coordinates of the columns and rows of a grid (width > 0) */
    const int32_t *table;    /* sites x sites distances otherwise */
    const int32_t *near;     /* sites x near_count nearest sites of each site, for the table */
    const int64_t *heat;     /* of each stage; -1 only probes */
    const int64_t *radius;   /* of the moves in each stage */
    const int64_t *surprise; /* 4096 values of -ln(u) */
    int32_t *site;           /* of each part; -1 for one that lies beside the sites */
    int32_t *at;             /* x, y of each part, for the grid */
    int32_t *owner;          /* of each site; -1 empty, -2 closed */
    int32_t *best;           /* best sites seen */
    int64_t *told;           /* cost change now, best cost change, moves, sum of |change|, proposals judged */
} Run;

static uint64_t mixed(uint64_t z)
{   /* splitmix64: Steele, Lea, Flood (OOPSLA 2014) */
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static int32_t size_of(int32_t value)
{
    return value < 0 ? -value : value;
}

/* Change of the cost when part i goes from site a to site b; its pair with part k stays as it is. */
static int64_t change(const Run *r, int64_t i, int64_t a, int64_t b, int64_t k)
{
    const int64_t first = r->start[i], last = r->start[i + 1];
    int64_t sum = 0;
    if (r->width > 0) {
        const int32_t ax = r->xs[a / r->height], ay = r->ys[a % r->height];
        const int32_t bx = r->xs[b / r->height], by = r->ys[b % r->height];
        for (int64_t e = first; e < last; e++) {
            const int64_t j = r->partner[e];
            const int32_t x = r->at[2 * j], y = r->at[2 * j + 1];
            const int32_t d = size_of(bx - x) - size_of(ax - x) + size_of(by - y) - size_of(ay - y);
            sum += j == k ? 0 : r->weight[e] * d;
        }
    } else {
        const int32_t *from = r->table + a * r->sites, *to = r->table + b * r->sites;
        for (int64_t e = first; e < last; e++) {
            const int64_t j = r->partner[e], s = r->site[j];
            sum += j == k ? 0 : r->weight[e] * (to[s] - from[s]);
        }
    }
    return sum;
}

/* Site proposed for part i on site a; -1 for none. */
static int64_t goal(const Run *r, int64_t i, int64_t a, uint64_t high, uint64_t v, int64_t radius)
{
    const int64_t first = r->start[i], degree = r->start[i + 1] - first;
    const uint64_t kind = high & 3;
    const int64_t across = (v >> 12) & 0x3FFFFFF, along = v >> 38;
    int64_t j = i, reach = kind == 2 ? radius : r->near_radius;
    if (degree > 0 && kind < 2) {
        const int64_t one = first + ((((high >> 2) & 0x7FFF) * degree) >> 15);
        const int64_t two = first + (((high >> 17) * degree) >> 15);
        j = r->partner[r->weight[two] > r->weight[one] ? two : one];
    }
    if (r->width == 0) {
        if (kind == 0)
            return r->near[r->site[j] * r->near_count + ((across * r->near_count) >> 26)];
        return (across * r->sites) >> 26;
    }
    const int64_t centre = r->site[j];
    if (centre < 0)
        return -1;
    const int64_t x = centre / r->height + ((across * (2 * reach + 1)) >> 26) - reach;
    const int64_t y = centre % r->height + ((along * (2 * reach + 1)) >> 26) - reach;
    if (x < 0 || y < 0 || x >= r->width || y >= r->height)
        return -1;
    return x * r->height + y;
}

static void put(const Run *r, int64_t part, int64_t site)
{
    r->site[part] = (int32_t)site;
    r->owner[site] = (int32_t)part;
    if (r->width > 0) {
        r->at[2 * part] = r->xs[site / r->height];
        r->at[2 * part + 1] = r->ys[site % r->height];
    }
}

static void keep(const Run *r)
{
    memcpy(r->best, r->site, sizeof(int32_t) * (size_t)r->parts);
    r->told[1] = r->told[0];
}

static void stage(const Run *r, int64_t number)
{
    const int64_t heat = r->heat[number], radius = r->radius[number];
    for (int64_t n = number * r->steps; n < (number + 1) * r->steps; n++) {
        const uint64_t count = r->seed + 2 * (uint64_t)n * UINT64_C(0x9E3779B97F4A7C15);
        const uint64_t u = mixed(count), v = mixed(count + UINT64_C(0x9E3779B97F4A7C15));
        const int64_t i = r->free[((u & 0xFFFFFFFF) * (uint64_t)r->movable) >> 32];
        const int64_t a = r->site[i], b = goal(r, i, a, u >> 32, v, radius);
        if (b < 0 || b == a || r->owner[b] == -2)
            continue;
        const int64_t k = r->owner[b];
        int64_t delta = change(r, i, a, b, k);
        if (k >= 0)
            delta += change(r, k, b, a, i);
        r->told[3] += delta < 0 ? -delta : delta;
        r->told[4] += 1;
        if (heat < 0 || delta > (heat * r->surprise[v & 4095]) >> r->shift)
            continue;
        if (r->exact_best && delta > 0 && r->told[0] < r->told[1])
            keep(r);
        r->owner[a] = -1;
        put(r, i, b);
        if (k >= 0)
            put(r, k, a);
        r->told[0] += delta;
        r->told[2] += 1;
    }
    if (r->told[0] < r->told[1])
        keep(r);
}

void nmc_anneal(const Run *r)
{
    for (int64_t number = 0; number < r->stages; number++)
        stage(r, number);
}

/* Search for a memory allocation: buffers in the order of their offsets, each as low as those before it allow
 * (Moffitt, "MiniMalloc", ASPLOS 2023). Buffers are numbered in the order of their begins. */

typedef struct {
    int64_t count, capacity, budget, squeeze;
    const int64_t *size, *align;
    const int32_t *first, *last; /* sections of time: first .. last - 1 */
    const int32_t *rank;         /* order of buffers with equal offsets */
    int64_t *offset;             /* of each buffer */
    int64_t *told;               /* nodes visited; 1 found, 0 there is none, -1 out of budget */
    int64_t *low;                /* (count + 1) x count: lowest offset of each buffer at each depth */
    int32_t *list, *next;        /* (count + 1) x count: buffers left at each depth, and those that may come next */
    int64_t *floor, *total;      /* of each section: lowest offset and sum of sizes of what is left */
    int64_t *roof;               /* of each section: lowest end that one of them may have */
    int64_t *tally;              /* of each section: buffers that may lie lowest */
    int64_t *least;              /* of each buffer: lowest offset that it may still have */
    int32_t *order;              /* buffers by that */
} Pack;

#define FAR (INT64_C(1) << 60)

static int64_t aligned(int64_t value, int64_t align)
{
    return (value + align - 1) / align * align;
}

/* Buffer b could have come before the one at (at, mark) and did not: it must be raised by another. */
static int passed(const Pack *p, const int64_t *low, int32_t b, int64_t at, int64_t mark)
{
    return low[b] < at || (low[b] == at && p->rank[b] <= mark);
}

/* Lowest offset of a buffer that was passed: on top of one that is left and meets it. FAR if none does. */
static int64_t raised(const Pack *p, const int64_t *low, const int32_t *list, int64_t m, int32_t b, int64_t at)
{
    int64_t least = FAR;
    for (int64_t k = 0; k < m && p->first[list[k]] < p->last[b]; k++) {
        const int32_t j = list[k];
        if (j == b || p->last[j] <= p->first[b])
            continue;
        const int64_t top = (low[j] > at ? low[j] : at) + p->size[j];
        least = top < least ? top : least;
    }
    return least == FAR ? FAR : aligned(least, p->align[b]);
}

/* Buffers in list by their least offsets, the highest first: a heap, the same whatever the compiler. */
static void sifted(const Pack *p, int64_t k, int64_t m)
{
    const int64_t *least = p->least;
    const int32_t b = p->order[k];
    for (int64_t child; (child = 2 * k + 1) < m; k = child) {
        if (child + 1 < m && least[p->order[child + 1]] < least[p->order[child]])
            child++;
        if (least[p->order[child]] >= least[b])
            break;
        p->order[k] = p->order[child];
    }
    p->order[k] = b;
}

static void sorted(const Pack *p, const int32_t *list, int64_t m)
{
    memcpy(p->order, list, (size_t)m * sizeof *list);
    for (int64_t k = m / 2; k-- > 0;)
        sifted(p, k, m);
    for (int64_t k = m; k-- > 1;) {
        const int32_t b = p->order[0];
        p->order[0] = p->order[k];
        p->order[k] = b;
        sifted(p, 0, k);
    }
}

/* Whether what is left at each time has room, however high what lies lowest of it is taken to be. */
static int roomy(const Pack *p, int64_t m)
{
    for (int64_t k = 0; k < m; k++) {
        const int32_t b = p->order[k];
        for (int32_t s = p->first[b]; s < p->last[b]; s++) {
            p->floor[s] = p->least[b];
            p->total[s] += p->size[b];
            p->roof[s] = p->least[b] + p->size[b] < p->roof[s] ? p->least[b] + p->size[b] : p->roof[s];
            if (p->floor[s] + p->total[s] > p->capacity)
                return 0;
        }
    }
    return 1;
}

static void inserted(const Pack *p, const int64_t *low, int32_t *next, int64_t k, int32_t b)
{
    for (; k > 0 && (low[next[k - 1]] > low[b] || (low[next[k - 1]] == low[b] && p->rank[next[k - 1]] > p->rank[b])); k--)
        next[k] = next[k - 1];
    next[k] = b;
}

/* Nothing that is left and meets b fits below it. */
static int lowest(const Pack *p, int32_t b)
{
    for (int32_t s = p->first[b]; s < p->last[b]; s++)
        if (p->roof[s] <= p->least[b])
            return 0;
    return 1;
}

/* At a time without room to spare one of few buffers lies lowest: the time with the fewest, their number; 0 for none. */
static int64_t tightest(const Pack *p, const int32_t *list, int64_t m, int32_t begin, int32_t end,
                        const int64_t *low, int64_t at, int64_t mark, int32_t *where)
{
    int64_t best = 0;
    int any = 0;
    for (int32_t s = begin; s < end; s++) {
        p->tally[s] = 0;
        any |= p->total[s] > 0 && p->floor[s] + p->total[s] == p->capacity;
    }
    if (!any)
        return 0;
    for (int64_t i = 0; i < m; i++) {
        const int32_t b = list[i];
        const int64_t weight = passed(p, low, b, at, mark) || !lowest(p, b) ? FAR : 1;
        for (int32_t s = p->first[b]; s < p->last[b]; s++)
            if (p->least[b] == p->floor[s] && p->tally[s] < FAR)
                p->tally[s] += weight;
    }
    for (int32_t s = begin; s < end; s++)
        if (p->total[s] > 0 && p->floor[s] + p->total[s] == p->capacity && p->tally[s] < FAR &&
            (best == 0 || p->tally[s] < best)) {
            best = p->tally[s];
            *where = s;
        }
    return best;
}

/* Whether all that is left of a component has room; the buffers that may come next, in order, and their number. */
static int64_t choices(const Pack *p, int64_t depth, int64_t from, int64_t m, int64_t at, int64_t mark, int *tight)
{
    const int32_t *list = p->list + depth * p->count + from;
    const int64_t *low = p->low + depth * p->count;
    int32_t *next = p->next + depth * p->count + from;
    int32_t begin = p->first[list[0]], end = begin, where = 0;
    int64_t ceiling = FAR, count = 0;
    *tight = 0;
    for (int64_t i = 0; i < m; i++) {
        const int32_t b = list[i];
        end = p->last[b] > end ? p->last[b] : end;
        ceiling = low[b] + p->size[b] < ceiling ? low[b] + p->size[b] : ceiling;
    }
    for (int32_t s = begin; s < end; s++) {
        p->floor[s] = p->roof[s] = FAR;
        p->total[s] = 0;
    }
    for (int64_t i = 0; i < m; i++) {
        const int32_t b = list[i];
        p->least[b] = low[b];
        if (passed(p, low, b, at, mark))
            p->least[b] = raised(p, low, list, m, b, at);
        else if (low[b] < ceiling)
            inserted(p, low, next, count++, b);
        if (p->least[b] + p->size[b] > p->capacity)
            return 0;
    }
    sorted(p, list, m);
    if (!roomy(p, m))
        return 0;
    const int64_t few = !p->squeeze ? 0 : tightest(p, list, m, begin, end, low, at, mark, &where);
    if (few == 0 || few > count)
        return count;
    count = 0;
    *tight = 1;
    for (int64_t i = 0; i < m; i++) {
        const int32_t b = list[i];
        if (p->first[b] <= where && where < p->last[b] && p->least[b] == p->floor[where])
            inserted(p, low, next, count++, b);
    }
    return count;
}

static int search(const Pack *p, int64_t depth, int64_t from, int64_t m, int64_t at, int64_t mark);

/* Place one component: buffers that meet one another in time, directly or by way of others. */
static int component(const Pack *p, int64_t depth, int64_t from, int64_t m, int64_t at, int64_t mark)
{
    if (p->told[0] >= p->budget)
        return -1;
    p->told[0]++;
    int tight;
    const int64_t count = choices(p, depth, from, m, at, mark, &tight);
    const int32_t *list = p->list + depth * p->count + from, *next = p->next + depth * p->count + from;
    const int64_t *low = p->low + depth * p->count;
    int32_t *left = p->list + (depth + 1) * p->count + from;
    int64_t *lows = p->low + (depth + 1) * p->count;
    for (int64_t c = 0; c < count; c++) {
        const int32_t b = next[c];
        const int64_t top = low[b] + p->size[b];
        int64_t k = 0;
        p->offset[b] = low[b];
        for (int64_t i = 0; i < m; i++) {
            const int32_t j = list[i];
            if (j == b)
                continue;
            const int meets = p->first[j] < p->last[b] && p->first[b] < p->last[j];
            left[k++] = j;
            lows[j] = meets && low[j] < top ? aligned(top, p->align[j]) : low[j];
        }
        const int found = search(p, depth + 1, from, m - 1, tight ? at : low[b], tight ? mark : p->rank[b]);
        if (found)
            return found;
    }
    return 0;
}

/* Place what is left at a depth, one component after another. */
static int search(const Pack *p, int64_t depth, int64_t from, int64_t m, int64_t at, int64_t mark)
{
    const int32_t *list = p->list + depth * p->count + from;
    for (int64_t i = 0; i < m;) {
        int32_t reach = p->last[list[i]];
        int64_t j = i + 1;
        for (; j < m && p->first[list[j]] < reach; j++)
            reach = p->last[list[j]] > reach ? p->last[list[j]] : reach;
        const int found = component(p, depth, from + i, j - i, at, mark);
        if (found != 1)
            return found;
        i = j;
    }
    return 1;
}

void nmc_pack(const Pack *p)
{
    for (int64_t i = 0; i < p->count; i++) {
        p->list[i] = (int32_t)i;
        p->low[i] = 0;
    }
    p->told[1] = search(p, 0, 0, p->count, -1, -1);
}

/* Annealing of the order in which buffers are laid on one another: each rests on the highest of those before it that
 * it meets in time. Less of what reaches above the capacity is better; at 0 everything fits. */

typedef struct {
    int64_t count, sections, capacity, stages, steps;
    uint64_t seed;
    const int32_t *size, *align, *first, *last;
    const int32_t *weight;   /* of each buffer, in eighths, for what of it is above the capacity */
    const int64_t *heat;     /* of each stage, times 1024 */
    const int64_t *surprise; /* 4096 values of -ln(u) */
    int32_t *order, *place;  /* buffers in their order; place of each buffer in it */
    int32_t *offset;         /* of each buffer */
    int32_t *trial, *rest;   /* order proposed, offsets in it */
    int32_t *sky;            /* of each section: end of the highest buffer so far */
    int32_t *kept;           /* 2 x slots x sections: sky before each slot of 32 places, and room for the next */
    int64_t *sums;           /* 2 x slots x 2: cost and height before each slot */
    int32_t *which;          /* of each slot: half of `kept` that counts */
    int32_t *best;           /* offsets of the lowest allocation seen */
    int64_t *told;           /* cost now, lowest height seen, proposals */
} Heap;

#define SLOT 32

/* Note what lies before a slot in the half that does not count. */
static void note(const Heap *h, int64_t slot, int64_t cost, int64_t top)
{
    const int64_t slots = (h->count + SLOT - 1) / SLOT, at = (1 - h->which[slot]) * slots + slot;
    memcpy(h->kept + at * h->sections, h->sky, sizeof(int32_t) * (size_t)h->sections);
    h->sums[2 * at] = cost;
    h->sums[2 * at + 1] = top;
}

/* Lay the buffers in the order proposed, which is the present one before place `same`; cost and height, or FAR once
 * the cost is above the limit. */
static int64_t laid(const Heap *h, int64_t same, int64_t limit, int64_t *height)
{
    const int64_t slots = (h->count + SLOT - 1) / SLOT, from = same / SLOT;
    const int64_t at = h->which[from] * slots + from;
    int64_t cost = from ? h->sums[2 * at] : 0, top = from ? h->sums[2 * at + 1] : 0;
    if (from)
        memcpy(h->sky, h->kept + at * h->sections, sizeof(int32_t) * (size_t)h->sections);
    else
        memset(h->sky, 0, sizeof(int32_t) * (size_t)h->sections);
    for (int64_t i = from * SLOT; i < h->count; i++) {
        if (i % SLOT == 0 && i / SLOT > from)
            note(h, i / SLOT, cost, top);
        const int32_t b = h->trial[i], end = h->last[b];
        int32_t low = 0;
        for (int32_t s = h->first[b]; s < end; s++)
            low = h->sky[s] > low ? h->sky[s] : low;
        low = h->align[b] > 1 ? (int32_t)aligned(low, h->align[b]) : low;
        h->rest[b] = low;
        low += h->size[b];
        for (int32_t s = h->first[b]; s < end; s++)
            h->sky[s] = low;
        top = low > top ? low : top;
        if (low > h->capacity) {
            const int64_t over = low - h->capacity;
            cost += ((over < h->size[b] ? over : h->size[b]) * h->weight[b] >> 3) + 1;
            if (cost > limit)
                return FAR;
        }
    }
    *height = top;
    return cost;
}

/* The first buffer from number `from` on, round and round, that buffer b rests on; -1 for none. */
static int64_t under(const Heap *h, int64_t b, int64_t from)
{
    for (int64_t n = 0; n < h->count; n++) {
        const int64_t j = from + n < h->count ? from + n : from + n - h->count;
        if (h->first[j] < h->last[b] && h->first[b] < h->last[j] && h->offset[j] < h->offset[b] &&
            aligned(h->offset[j] + h->size[j], h->align[b]) == h->offset[b])
            return j;
    }
    return -1;
}

/* Two buffers, one resting on the other, some way down from one that ends above the capacity; 0 if there are none. */
static int stacked(const Heap *h, int64_t from, int64_t down, int64_t *upper, int64_t *lower)
{
    int64_t b = from, n = 0;
    while (n < h->count && h->offset[b] + h->size[b] <= h->capacity) {
        b = b + 1 < h->count ? b + 1 : 0;
        n++;
    }
    *upper = -1;
    for (int64_t k = 0; k <= down; k++) {
        const int64_t next = under(h, b, from);
        if (next < 0)
            break;
        *upper = b;
        *lower = b = next;
    }
    return *upper >= 0;
}

/* Places from and to of the buffer to move. */
static void shift(const Heap *h, uint64_t u, uint64_t v, int64_t *from, int64_t *to)
{
    const int64_t kind = u & 7, any = (int64_t)((u >> 32) * (uint64_t)h->count >> 32);
    const int64_t far = (int64_t)((v >> 38) * (uint64_t)h->count >> 26);
    int64_t upper, lower;
    *from = h->place[any];
    *to = far;
    if (kind < 5 && stacked(h, any, (u >> 3) & 7, &upper, &lower)) {
        *from = h->place[kind == 3 ? lower : upper];
        *to = kind < 3 ? h->place[lower] : kind == 3 ? h->place[upper] : far;
    } else if (kind == 7) {
        *to = *from + ((int64_t)(v >> 38) * 21 >> 26) - 10;
        *to = *to < 0 ? 0 : *to < h->count ? *to : h->count - 1;
    }
}

/* Take the order that was laid. */
static void accept(const Heap *h, int64_t same, int64_t cost, int64_t height)
{
    const int64_t from = same / SLOT * SLOT;
    for (int64_t i = from; i < h->count; i++) {
        const int32_t b = h->order[i] = h->trial[i];
        h->place[b] = (int32_t)i;
        h->offset[b] = h->rest[b];
        if (i % SLOT == 0 && i > from)
            h->which[i / SLOT] ^= 1;
    }
    h->told[0] = cost;
    if (height < h->told[1]) {
        memcpy(h->best, h->offset, sizeof(int32_t) * (size_t)h->count);
        h->told[1] = height;
    }
}

/* Lay all in the order of their offsets, which puts no buffer higher. */
static void straightened(const Heap *h)
{
    for (int64_t i = 0; i < h->count; i++) {
        const int32_t b = h->order[i];
        int64_t k = i;
        for (; k > 0 && h->offset[h->trial[k - 1]] > h->offset[b]; k--)
            h->trial[k] = h->trial[k - 1];
        h->trial[k] = b;
    }
    int64_t height;
    const int64_t cost = laid(h, 0, FAR, &height);
    accept(h, 0, cost, height);
}

/* Move a buffer in the order proposed, which is the present one from place `least` on; the first place that changes. */
static int64_t moved(const Heap *h, int64_t from, int64_t to)
{
    const int64_t least = from < to ? from : to, at = least / SLOT * SLOT;
    memcpy(h->trial + at, h->order + at, sizeof(int32_t) * (size_t)(h->count - at));
    const int32_t b = h->trial[from];
    if (from < to)
        memmove(h->trial + from, h->trial + from + 1, sizeof(int32_t) * (size_t)(to - from));
    else
        memmove(h->trial + to + 1, h->trial + to, sizeof(int32_t) * (size_t)(from - to));
    h->trial[to] = b;
    return least;
}

void nmc_heap(const Heap *h)
{
    int64_t height, from, to;
    h->told[1] = FAR;
    straightened(h);
    for (int64_t n = 0; n < h->stages * h->steps && h->told[0] > 0; n++) {
        const uint64_t count = h->seed + 2 * (uint64_t)n * UINT64_C(0x9E3779B97F4A7C15);
        const uint64_t u = mixed(count), v = mixed(count + UINT64_C(0x9E3779B97F4A7C15));
        h->told[2]++;
        shift(h, u, v, &from, &to);
        if (from == to)
            continue;
        const int64_t same = moved(h, from, to);
        const int64_t limit = h->told[0] + ((h->heat[n / h->steps] * h->surprise[v & 4095]) >> 30);
        const int64_t cost = laid(h, same, limit, &height);
        if (cost == FAR)
            continue;
        accept(h, same, cost, height);
        if (n % 64 == 0)
            straightened(h);
    }
}
