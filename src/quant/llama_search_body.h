/* llama_search_body.h - the part of search_body.h that finds scales as ggml's own encoders do (gate/llama_encoder.h says what for).
 *
 * Invariant: each column's operations are ggml's in ggml's order, rounded one by one, or with `fused` those that a compiler joins to multiply-adds rounded
 * once. The least squares here cancel; a sum in another order would choose other codes in one block of ten.
 */
#if defined(__AVX512F__)
static inline vf vf_fused(vf a, vf b, vf c) { return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
static inline vf vf_sqrt(vf v) { return (vf)_mm512_sqrt_ps((__m512)v); }
#elif defined(__AVX2__)
static inline vf vf_fused(vf a, vf b, vf c) { return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
static inline vf vf_sqrt(vf v) { return (vf)_mm256_sqrt_ps((__m256)v); }
#else
static inline vf vf_fused(vf a, vf b, vf c)
{
    vf v = {0};
    for (size_t k = 0; k < QN_LANES; k++) {
        v[k] = fmaf(a[k], b[k], c[k]);
    }
    return v;
}
static inline vf vf_sqrt(vf v)
{
    vf root = {0};
    for (size_t k = 0; k < QN_LANES; k++) {
        root[k] = sqrtf(v[k]);
    }
    return root;
}
#endif

static inline vf vf_madd(vf a, vf b, vf c, bool fused) { return fused ? vf_fused(a, b, c) : a * b + c; }

/* a * b - c * d; compilers join the first product. */
static inline vf vf_cross(vf a, vf b, vf c, vf d, bool fused)
{
    vf second = c * d;
    return fused ? vf_fused(a, b, -second) : a * b - second;
}

/* a * b to the nearest integer in [low, high], read from the mantissa of the sum with 1.5 * 2^23: NaN is 0, infinity the lowest. */
static inline vf vf_rounded(vf a, vf b, vf low, vf high, bool fused)
{
    vi bits = (vi)vf_madd(a, b, vf_set(12582912.0f), fused);
    return vf_clamp(__builtin_convertvector((bits & 0x7fffff) - 0x400000, vf), low, high);
}

/* ---- scale and minimum ---- */

typedef struct llama_weights {
    vf typical; /* a weight is this and the value's magnitude */
    bool absolute;
} llama_weights;

static inline vf llama_error(const float *x, size_t len, const llama_weights *w, vf inverse, vf origin, vf top, vf scale, vf min,
                             bool fused)
{
    vf sum = vf_set(0);
    for (size_t i = 0; i < len; i++) {
        vf v = vf_load(x + QN_COLUMNS * i), l = vf_rounded(inverse, v - origin, vf_set(0), top, fused);
        vf d = vf_madd(scale, l, min, fused) - v;
        d = w->absolute ? vf_abs(d) : d * d;
        sum = vf_madd(w->typical + vf_abs(v), d, sum, fused);
    }
    return sum;
}

static inline __attribute__((always_inline)) void llama_offsets_for(const float *x, size_t len, const qn_llama_offsets *o, bool absolute,
                                                                    bool fused, float *scale_out, float *min_out)
{
    const vf zero = vf_set(0), one = vf_set(1.0f), top = vf_set(o->top);
    vf first = vf_load(x), low = first, high = first, squares = first * first;
    for (size_t i = 1; i < len; i++) {
        vf v = vf_load(x + QN_COLUMNS * i);
        low = vf_min(v, low);
        high = vf_max(v, high);
        squares = vf_madd(v, v, squares, fused);
    }
    const llama_weights w = {.typical = absolute ? zero : vf_sqrt(squares / vf_set((float)len)), .absolute = absolute};
    vf sum_w = w.typical + vf_abs(first), sum_x = sum_w * first;
    for (size_t i = 1; i < len; i++) {
        vf v = vf_load(x + QN_COLUMNS * i), weight = w.typical + vf_abs(v);
        sum_w += weight;
        sum_x = vf_madd(weight, v, sum_x, fused);
    }
    low = vf_min(low, zero);
    vi flat = high == low;
    vf range = vf_select(flat, one, high - low);
    vf inverse = top / range, scale = one / inverse, min = low;
    vf best = llama_error(x, len, &w, inverse, low, top, scale, min, fused);
    for (int step = 0; step <= o->n_steps; step++) {
        vf sum_l = zero, sum_l2 = zero, sum_xl = zero;
        vf wide = vf_madd(vf_set(o->step), vf_set((float)step), vf_set(o->first), fused) + top;
        inverse = wide / vf_select(flat, one, high - min); /* of the best minimum so far */
        for (size_t i = 0; i < len; i++) {
            vf v = vf_load(x + QN_COLUMNS * i), weight = w.typical + vf_abs(v);
            vf l = vf_rounded(inverse, v - min, zero, top, fused), wl = weight * l;
            sum_l = vf_madd(weight, l, sum_l, fused);
            sum_l2 = vf_madd(wl, l, sum_l2, fused);
            sum_xl = vf_madd(wl, v, sum_xl, fused);
        }
        vf det = vf_cross(sum_w, sum_l2, sum_l, sum_l, fused);
        vi usable = det > zero;
        vf divisor = vf_select(usable, det, one);
        vf own_scale = vf_cross(sum_w, sum_xl, sum_x, sum_l, fused) / divisor,
           own_min = vf_cross(sum_l2, sum_x, sum_l, sum_xl, fused) / divisor;
        vi positive = own_min > zero;
        own_scale = vf_select(positive, sum_xl / vf_select(sum_l2 > zero, sum_l2, one), own_scale);
        own_min = vf_select(positive, zero, own_min);
        vf error = llama_error(x, len, &w, inverse, min, top, own_scale, own_min, fused);
        vi better = usable & (error < best);
        best = vf_select(better, error, best);
        scale = vf_select(better, own_scale, scale);
        min = vf_select(better, own_min, min);
    }
    vf_store(scale_out, vf_select(flat, zero, scale));
    vf_store(min_out, vf_select(flat, low, min));
}

static void llama_offsets(const float *x, size_t len, const qn_llama_offsets *o, bool fused, float *scale, float *min)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        if (o->absolute && !fused) {
            llama_offsets_for(x + c, len, o, true, false, scale + c, min + c);
        } else if (o->absolute) {
            llama_offsets_for(x + c, len, o, true, true, scale + c, min + c);
        } else if (!fused) {
            llama_offsets_for(x + c, len, o, false, false, scale + c, min + c);
        } else {
            llama_offsets_for(x + c, len, o, false, true, scale + c, min + c);
        }
    }
}

/* ---- scale ---- */

/* As nearest_iq4, with ties to the level above. */
static inline vf llama_iq4(vf t)
{
    vf v = vf_set((float)qn_iq4_levels[0]);
    for (int k = 0; k < 15; k++) {
        vf middle = vf_set(0.5f * (float)(qn_iq4_levels[k] + qn_iq4_levels[k + 1]));
        vf gap = vf_set((float)(qn_iq4_levels[k + 1] - qn_iq4_levels[k]));
        v += vf_select(t >= middle, gap, vf_set(0));
    }
    return v;
}

typedef struct llama_sums {
    vf xl, l2;
} llama_sums;

/* For one inverse scale; weights are the squares of the values. */
static inline llama_sums llama_pass(const float *x, size_t len, bool iq4, vf low, vf high, vf inverse, bool fused)
{
    llama_sums s = {vf_set(0), vf_set(0)};
    for (size_t i = 0; i < len; i++) {
        vf v = vf_load(x + QN_COLUMNS * i), w = v * v;
        vf l = iq4 ? llama_iq4(inverse * v) : vf_rounded(inverse, v, low, high, fused), wl = w * l;
        s.xl = iq4 ? vf_madd(wl, v, s.xl, fused) : vf_madd(w * v, l, s.xl, fused);
        s.l2 = vf_madd(wl, l, s.l2, fused);
    }
    return s;
}

static inline __attribute__((always_inline)) void llama_scales_for(const float *x, size_t len, const qn_llama_scales *o, bool iq4,
                                                                   bool fused, float *scale_out)
{
    const vf zero = vf_set(0), one = vf_set(1.0f), low = vf_set(o->low), high = vf_set(o->high);
    vf peak = zero; /* the element of greatest magnitude, with its sign */
    for (size_t i = 0; i < len; i++) {
        vf v = vf_load(x + QN_COLUMNS * i);
        peak = vf_select(vf_abs(v) > vf_abs(peak), v, peak);
    }
    vi none = vf_abs(peak) < vf_set(QN_LLAMA_NEGLIGIBLE);
    peak = vf_select(none, one, peak);
    /* the extreme at the lowest level; of a table, first at as much the other way */
    llama_sums s = llama_pass(x, len, iq4, low, high, iq4 ? one / (-peak / low) : low / peak, fused);
    vf scale = s.xl / vf_select(s.l2 > zero, s.l2, one), best = scale * s.xl;
    for (int trial = -o->n_trials; trial <= o->n_trials; trial++) {
        if (trial == 0 && !iq4) {
            continue;
        }
        vf at = vf_set((float)trial), inverse = iq4 ? (at + low) / peak : -vf_madd(vf_set(o->step), at, -low, fused) / peak;
        s = llama_pass(x, len, iq4, low, high, inverse, fused);
        vi better = (s.l2 > zero) & (s.xl * s.xl > best * s.l2);
        vf own = s.xl / vf_select(s.l2 > zero, s.l2, one);
        scale = vf_select(better, own, scale);
        best = vf_select(better, own * s.xl, best);
    }
    vf_store(scale_out, vf_select(none, zero, scale));
}

static void llama_scales(const float *x, size_t len, const qn_llama_scales *o, bool fused, float *scale)
{
    for (size_t c = 0; c < QN_COLUMNS; c += QN_LANES) {
        if (o->iq4 && !fused) {
            llama_scales_for(x + c, len, o, true, false, scale + c);
        } else if (o->iq4) {
            llama_scales_for(x + c, len, o, true, true, scale + c);
        } else if (!fused) {
            llama_scales_for(x + c, len, o, false, false, scale + c);
        } else {
            llama_scales_for(x + c, len, o, false, true, scale + c);
        }
    }
}
