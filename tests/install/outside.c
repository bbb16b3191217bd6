/* outside.c - a program that knows Quern only as installed: it prints the version and the text of every status. */
#include <stdio.h>

#include <quern/quern.h>

int main(void)
{
    static const quern_status statuses[] = {
#define X(name, exit_code, http_code, text) name,
        QUERN_STATUS_LIST(X)
#undef X
    };
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        printf("%s %s\n", quern_status_name(statuses[i]), quern_status_text(statuses[i]));
    }
    return 0;
}
