/* test_cli_energy.c - the energy counters of made-up machines. */
#include "qn_test.h"

#include <math.h>
#include <sys/stat.h>

#include "energy.h"
#include "test_files.h"

static char *folder;

static void put(const char *domain, const char *name, const char *text)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", folder, domain);
    (void)mkdir(path, 0700);
    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, domain, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void put_domain(const char *domain, const char *name, const char *energy)
{
    put(domain, "name", name);
    put(domain, "energy_uj", energy);
    put(domain, "max_energy_range_uj", "1000000000\n");
}

static void take_away(const char *domain, const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/%s/%s", folder, domain, name);
    assert_int_equal(remove(path), 0);
}

/* Two packages with parts of theirs, and counters that are no packages. */
static void two_packages(void)
{
    put_domain("intel-rapl:0", "package-0\n", "5000000\n");
    put_domain("intel-rapl:0:0", "core\n", "100\n");
    put_domain("intel-rapl:1", "package-1\n", "999000000\n");
    put_domain("intel-rapl:1:0", "dram\n", "100\n");
    put_domain("intel-rapl:2", "psys\n", "100\n");
    put_domain("intel-rapl-mmio:0", "package-0\n", "100\n");
    put_domain("dtpm", "package-0\n", "100\n");
}

static void test_packages(void **state)
{
    (void)state;
    qn_energy e;
    two_packages();
    qn_energy_begin(&e, folder);
    assert_true(e.known);
    assert_int_equal(e.n, 2);
    assert_float_equal(qn_energy_joules(&e), 0, 0);
    put_domain("intel-rapl:0", "package-0\n", "8000000\n");
    put_domain("intel-rapl:0:0", "core\n", "2000100\n");
    put_domain("intel-rapl:1", "package-1\n", "999500000\n");
    put_domain("intel-rapl:2", "psys\n", "77000000\n");
    put_domain("intel-rapl-mmio:0", "package-0\n", "77000000\n");
    assert_float_equal(qn_energy_joules(&e), 3.5, 1e-9);
}

static void test_round(void **state)
{
    (void)state;
    qn_energy e;
    two_packages();
    qn_energy_begin(&e, folder);
    put_domain("intel-rapl:0", "package-0\n", "6000000\n");
    put_domain("intel-rapl:1", "package-1\n", "500000\n"); /* 1 J to its range, and half of one from 0 on */
    assert_float_equal(qn_energy_joules(&e), 2.5, 1e-9);
}

static void test_unreadable(void **state)
{
    (void)state;
    qn_energy e;
    two_packages();
    qn_energy_begin(&e, folder);
    take_away("intel-rapl:1", "energy_uj");
    assert_true(isnan(qn_energy_joules(&e)));
    qn_energy_begin(&e, folder); /* from the beginning on */
    assert_true(isnan(qn_energy_joules(&e)));
    put("intel-rapl:1", "energy_uj", "999000000\n");
    assert_true(isnan(qn_energy_joules(&e)));
    put("intel-rapl:1", "energy_uj", "twelve\n");
    qn_energy_begin(&e, folder);
    assert_true(isnan(qn_energy_joules(&e)));
    put("intel-rapl:1", "energy_uj", "-5\n");
    qn_energy_begin(&e, folder);
    assert_true(isnan(qn_energy_joules(&e)));
    put_domain("intel-rapl:1", "package-1\n", "5\n");
    take_away("intel-rapl:1", "name");
    qn_energy_begin(&e, folder);
    assert_true(isnan(qn_energy_joules(&e)));
    put("intel-rapl:1", "name", "package-1\n");
    put("intel-rapl:1", "max_energy_range_uj", "3\n");
    qn_energy_begin(&e, folder);
    assert_float_equal(qn_energy_joules(&e), 0, 0);
    put("intel-rapl:1", "energy_uj", "1\n"); /* went round from beyond its range */
    assert_true(isnan(qn_energy_joules(&e)));
}

static void test_none(void **state)
{
    (void)state;
    qn_energy e;
    qn_energy_begin(&e, folder);
    assert_true(isnan(qn_energy_joules(&e)));
    qn_energy_begin(&e, "/no/such/folder");
    assert_true(isnan(qn_energy_joules(&e)));
}

static int make_folder(void **state)
{
    (void)state;
    folder = scratch_create();
    return folder == NULL;
}

static int remove_folder(void **state)
{
    (void)state;
    scratch_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_packages, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_round, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_unreadable, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_none, make_folder, remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
