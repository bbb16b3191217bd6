/* jinja_time.c - strftime_now: a time in UTC written as C's strftime does in the C locale.
 *
 * Computed from the second count alone, so that nothing depends on time zone data or locale.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_run.h"

typedef struct moment {
    int64_t epoch, year;
    int month, day, hour, minute, second; /* month and day from 1 */
    int weekday, yearday;                 /* from Sunday = 0; from 0 */
} moment;

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }

static bool is_leap(int64_t y) { return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0; }

/* Civil date from days since 1970-01-01, in eras of 400 years that begin on 1 March. */
static moment from_epoch(int64_t epoch)
{
    static const int DAYS_BEFORE[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    moment m = {.epoch = epoch};
    int64_t days = floor_div(epoch, 86400), rest = epoch - days * 86400;
    m.hour = (int)(rest / 3600);
    m.minute = (int)(rest / 60 % 60);
    m.second = (int)(rest % 60);
    m.weekday = (int)((days % 7 + 11) % 7); /* 1970-01-01 was a Thursday */
    int64_t shifted = days + 719468, era = floor_div(shifted, 146097), day_of_era = shifted - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;
    m.day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    m.month = (int)(month < 10 ? month + 3 : month - 9);
    m.year = year_of_era + era * 400 + (m.month <= 2);
    m.yearday = DAYS_BEFORE[m.month - 1] + m.day - 1 + (m.month > 2 && is_leap(m.year));
    return m;
}

/* Week of the year that begins with its Thursday (ISO 8601), and the year it belongs to. */
static int iso_week(const moment *m, int64_t *year)
{
    int monday_based = (m->weekday + 6) % 7;
    int week = (m->yearday - monday_based + 10) / 7;
    *year = m->year;
    if (week < 1) {
        (*year)--;
        int last = m->yearday + (is_leap(*year) ? 366 : 365);
        return (last - monday_based + 10) / 7;
    }
    int days = is_leap(m->year) ? 366 : 365;
    if (week == 53 && m->yearday - monday_based + 3 >= days) { /* its Thursday is in the next year */
        (*year)++;
        return 1;
    }
    return week;
}

static const char *const WEEKDAYS[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char *const MONTHS[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};

/* Directives that are several others. */
static const char *composed(char c)
{
    return c == 'c'               ? "%a %b %e %H:%M:%S %Y"
           : c == 'D' || c == 'x' ? "%m/%d/%y"
           : c == 'F'             ? "%Y-%m-%d"
           : c == 'R'             ? "%H:%M"
           : c == 'T' || c == 'X' ? "%H:%M:%S"
           : c == 'r'             ? "%I:%M:%S %p"
           : c == '+'             ? "%a %b %e %H:%M:%S %Z %Y"
                                  : NULL;
}

/* Writes one directive; false if it is unknown. pad: 0 = the usual. */
static bool directive(const moment *m, char c, char pad, char out[64])
{
    int64_t iso_year;
    int week = iso_week(m, &iso_year), hour12 = m->hour % 12 == 0 ? 12 : m->hour % 12;
    static const struct {
        char c;
        char width;
        char pad;
    } NUMBERS[] = {
        {'d', 2, '0'}, {'e', 2, ' '}, {'H', 2, '0'}, {'I', 2, '0'}, {'k', 2, ' '}, {'l', 2, ' '}, {'m', 2, '0'}, {'M', 2, '0'},
        {'S', 2, '0'}, {'j', 3, '0'}, {'y', 2, '0'}, {'C', 2, '0'}, {'U', 2, '0'}, {'W', 2, '0'}, {'V', 2, '0'}, {'g', 2, '0'},
        {'u', 1, '0'}, {'w', 1, '0'}, {'Y', 1, '0'}, {'G', 1, '0'}, {'s', 1, '0'}, {'f', 6, '0'},
    };
    const int64_t values[] = {
        m->day,
        m->day,
        m->hour,
        hour12,
        m->hour,
        hour12,
        m->month,
        m->minute,
        m->second,
        m->yearday + 1,
        (m->year % 100 + 100) % 100,
        floor_div(m->year, 100),
        (m->yearday + 7 - m->weekday) / 7,
        (m->yearday + 7 - (m->weekday + 6) % 7) / 7,
        week,
        (iso_year % 100 + 100) % 100,
        m->weekday == 0 ? 7 : m->weekday,
        m->weekday,
        m->year,
        iso_year,
        m->epoch,
        0,
    };
    for (size_t i = 0; i < sizeof NUMBERS / sizeof NUMBERS[0]; i++) {
        if (NUMBERS[i].c == c) {
            char fill = pad == '_' ? ' ' : pad == '0' ? '0' : NUMBERS[i].pad;
            int width = pad == '-' ? 1 : NUMBERS[i].width;
            (void)snprintf(out, 64, fill == ' ' ? "%*" PRId64 : "%0*" PRId64, width, values[i]);
            return true;
        }
    }
    const char *text = NULL;
    switch (c) {
    case 'A': text = WEEKDAYS[m->weekday]; break;
    case 'B': text = MONTHS[m->month - 1]; break;
    case 'a': (void)snprintf(out, 64, "%.3s", WEEKDAYS[m->weekday]); return true;
    case 'b':
    case 'h': (void)snprintf(out, 64, "%.3s", MONTHS[m->month - 1]); return true;
    case 'p': text = m->hour < 12 ? "AM" : "PM"; break;
    case 'P': text = m->hour < 12 ? "am" : "pm"; break;
    case 'n': text = "\n"; break;
    case 't': text = "\t"; break;
    case '%': text = "%"; break;
    case 'Z':
    case 'z': text = ""; break; /* a time without zone, as datetime.now() gives */
    default: return false;
    }
    (void)snprintf(out, 64, "%s", text);
    return true;
}

static bool write_format(qn_jbuf *b, const moment *m, const char *format, size_t len, const qn_jstr *marks)
{
    bool ok = true;
    for (size_t i = 0; ok && i < len; i++) {
        bool content = marks != NULL && qn_jstr_mark(marks, i);
        if (format[i] != '%' || i + 1 == len) {
            ok = marks != NULL ? qn_jbuf_append_slice(b, marks, i, i + 1) : qn_jbuf_append_char(b, format[i], false);
            continue;
        }
        size_t at = i + 1;
        char pad = format[at] == '-' || format[at] == '_' || format[at] == '0' ? format[at] : '\0', text[64];
        at += pad != '\0';
        char c = at < len ? format[at] : '\0';
        const char *inner = composed(c);
        if (inner != NULL) {
            ok = qn_jcharge(b->run, 10) && write_format(b, m, inner, strlen(inner), NULL);
            i = at;
        } else if (directive(m, c, pad, text)) {
            ok = qn_jcharge(b->run, 5) && qn_jbuf_append_text(b, text, content);
            i = at;
        } else { /* unknown: the percent sign stays */
            ok = qn_jbuf_append_char(b, '%', content);
        }
    }
    return ok;
}

bool qn_jformat_time(qn_jrun *run, int64_t now, const qn_jstr *format, qn_jval *out)
{
    const int64_t far = INT64_C(67767976233532799); /* the end of year 2147483647 */
    if (now > far || now < -far) {
        return qn_jfail(run, "the time is out of range");
    }
    moment m = from_epoch(now);
    qn_jbuf b;
    qn_jbuf_init(&b, run);
    bool ok = qn_jcharge(run, format->len) && write_format(&b, &m, format->data, format->len, format) && qn_jbuf_finish(&b, out);
    qn_jbuf_deinit(&b);
    return ok;
}
