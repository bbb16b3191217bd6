/* progress.c - the bar. */
#include "progress.h"

#include <string.h>

#include "base/clock.h"
#include "cli.h"

enum { REDRAW_NS = 100000000, FIRST_DRAW_NS = 300000000, BAR_COLUMNS_MAX = 30, BAR_COLUMNS_MIN = 8 };
#define SECONDS_BEFORE_ETA 0.5 /* an estimate from less is noise */

void qn_progress_begin(qn_progress *p, const qn_term *term, bool enabled, const char *label, qn_progress_unit unit)
{
    *p = (qn_progress){.term = term, .label = label, .unit = unit, .enabled = enabled && term->is_terminal, .started_ns = qn_clock_ns()};
}

static const char *format_amount(const qn_progress *p, qn_number buf, uint64_t n)
{
    return p->unit == QN_UNIT_BYTES ? qn_format_bytes(buf, n) : qn_format_grouped(buf, n);
}

static void append_clock(qn_buf *out, double seconds)
{
    uint64_t s = seconds < 0 ? 0 : seconds > 359999 ? 359999 : (uint64_t)(seconds + 0.5);
    if (s >= 3600) {
        (void)qn_buf_printf(out, "%u:%02u:%02u", (unsigned)(s / 3600), (unsigned)(s / 60 % 60), (unsigned)(s % 60));
    } else {
        (void)qn_buf_printf(out, "%u:%02u", (unsigned)(s / 60), (unsigned)(s % 60));
    }
}

/* "62 %  tensor 37/310  9.1 GiB / 14.5 GiB  412 MiB/s  0:13 left" */
static void append_numbers(const qn_progress *p, const char *item, bool with_rate, uint64_t done, uint64_t total, double seconds,
                           qn_buf *out)
{
    qn_number a, b;
    double rate = seconds > 0 ? (double)done / seconds : 0;
    if (total > 0) {
        (void)qn_buf_printf(out, "%3u %%  %s%s / %s", (unsigned)((double)done / (double)total * 100.0), item, format_amount(p, a, done),
                            format_amount(p, b, total));
    } else {
        (void)qn_buf_append_str(out, format_amount(p, a, done));
    }
    if (seconds < SECONDS_BEFORE_ETA || done == 0) {
        return;
    }
    if (with_rate && p->unit == QN_UNIT_BYTES) {
        (void)qn_buf_printf(out, "  %s/s", qn_format_bytes(a, (uint64_t)rate));
    } else if (with_rate && p->unit == QN_UNIT_TOKENS) {
        (void)qn_buf_printf(out, "  %s tok/s", qn_format_rate(a, rate));
    }
    if (total > done) {
        (void)qn_buf_append_str(out, "  ");
        append_clock(out, (double)(total - done) / rate);
        (void)qn_buf_append_str(out, " left");
    }
}

/* All there is to say if a bar fits beside it, else without the speed; without the item where that does not fit even without a bar. */
static void fit_numbers(const qn_progress *p, uint64_t done, uint64_t total, double seconds, size_t columns, qn_buf *out)
{
    char item[64] = "";
    if (p->item != NULL) {
        (void)snprintf(item, sizeof item, "%s %zu/%zu  ", p->item, p->item_number, p->n_items);
    }
    append_numbers(p, item, true, done, total, seconds, out);
    if (item[0] != '\0' && out->len + BAR_COLUMNS_MIN + 5 > columns) {
        qn_buf_reset(out);
        append_numbers(p, item, false, done, total, seconds, out);
    }
    if (item[0] != '\0' && out->len + 3 > columns) {
        qn_buf_reset(out);
        append_numbers(p, "", true, done, total, seconds, out);
    }
}

void qn_progress_format(const qn_progress *p, uint64_t done, uint64_t total, double seconds, size_t columns, qn_buf *out)
{
    qn_buf numbers;
    qn_buf_init(&numbers, 256);
    done = total > 0 && done > total ? total : done;
    size_t label = qn_text_width(p->label, strlen(p->label));
    fit_numbers(p, done, total, seconds, columns > label ? columns - label : 0, &numbers);
    size_t used = label + 2 + numbers.len + 2;
    size_t room = columns > used + 1 ? columns - used - 1 : 0; /* the last column stays free: some terminals wrap there */
    size_t bar = total == 0 || room < BAR_COLUMNS_MIN ? 0 : room < BAR_COLUMNS_MAX ? room : BAR_COLUMNS_MAX;
    size_t fill = total > 0 ? (size_t)((double)done / (double)total * (double)bar) : 0;
    const char *full = p->term->utf8 ? "\xe2\x94\x81" : "=", *empty = p->term->utf8 ? "\xe2\x94\x81" : " ";
    (void)qn_buf_printf(out, "%s  ", p->label);
    (void)qn_buf_append_str(out, bar > 0 ? qn_term_style(p->term, QN_STYLE_ACCENT) : "");
    for (size_t i = 0; i < bar; i++) {
        if (i == fill) {
            (void)qn_buf_append_str(out, qn_term_style(p->term, QN_STYLE_NONE));
            (void)qn_buf_append_str(out, qn_term_style(p->term, QN_STYLE_DIM));
        }
        /* without colours an empty part must look empty */
        (void)qn_buf_append_str(out, i < fill ? full : p->term->color ? empty : " ");
    }
    if (bar > 0) {
        (void)qn_buf_append_str(out, qn_term_style(p->term, QN_STYLE_NONE));
        (void)qn_buf_append_str(out, "  ");
    }
    size_t rest = columns > label + 3 ? columns - label - 3 : 0;
    (void)qn_buf_append(out, qn_buf_text(&numbers), bar > 0 ? numbers.len : qn_text_fit(qn_buf_text(&numbers), numbers.len, rest));
    qn_buf_deinit(&numbers);
}

void qn_progress_set_item(qn_progress *p, const char *name, size_t number, size_t n)
{
    p->item = name;
    p->item_number = number;
    p->n_items = n;
}

void qn_progress_update(qn_progress *p, uint64_t done, uint64_t total)
{
    if (!p->enabled) {
        return;
    }
    uint64_t now = qn_clock_ns();
    bool complete = total > 0 && done >= total;
    if (!p->drawn && now - p->started_ns < FIRST_DRAW_NS) {
        return; /* what is quick needs no bar */
    }
    if (p->drawn && !complete && now - p->drawn_ns < REDRAW_NS) {
        return;
    }
    qn_buf line;
    qn_buf_init(&line, 4096);
    (void)qn_buf_append_str(&line, "\r");
    qn_progress_format(p, done, total, qn_clock_seconds(p->started_ns, now), qn_term_columns(p->term), &line);
    (void)qn_buf_append_str(&line, "\033[K");
    (void)fwrite(qn_buf_text(&line), 1, line.len, p->term->file);
    (void)fflush(p->term->file);
    qn_buf_deinit(&line);
    p->drawn = true;
    p->drawn_ns = now;
}

void qn_progress_end(qn_progress *p)
{
    if (p->drawn) {
        (void)fputs("\r\033[K", p->term->file);
        (void)fflush(p->term->file);
        p->drawn = false;
    }
}
