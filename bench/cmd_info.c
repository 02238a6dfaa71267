/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_info.c: `tenon info`: the library's device list as it stands (tenon_device_get), so that what
 * is printed here is what a program would be told, after a few lines about the machine itself.
 */
#include "commands.h"

#include "json.h"
#include "machine.h"
#include "options.h"
#include "table.h"

#include <tenon/tenon.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const char *const notes =
    "Devices come in the order in which \"auto\" prefers them; one that is not usable says why. The\n"
    "instruction set in use comes first (TENON_CPU=scalar|avx2|avx512|amx forces one). --json prints one\n"
    "object per line: the machine (op \"machine\"), then each device (op \"device\").";
/* clang-format on */

/* Variables that change what tenon does; shown when they are set. */
static const char *const variables[] = {"TENON_DEVICE", "TENON_CPU"};
#define VARIABLES (sizeof variables / sizeof *variables)

static void print_machine(const char *processor, const char *version) {
    char a[32], b[32];
    printf("tenon %s\n\nmachine      %s\n", version, processor);
    printf("cores        %d usable by this process\n", machine_cores());
    printf("caches       ");
    for (int level = 1; level <= 3; ++level)
        if (machine_cache_bytes(level))
            printf("%sL%d %s", level > 1 ? ", " : "", level,
                   table_bytes(machine_cache_bytes(level), a, sizeof a));
    printf("\nmemory       %s, %s available\n", table_bytes(machine_memory_total(), a, sizeof a),
           table_bytes(machine_memory_available(), b, sizeof b));
    for (size_t i = 0; i < VARIABLES; ++i)
        if (getenv(variables[i]))
            printf("environment  %s=%s\n", variables[i], getenv(variables[i]));
}

static void machine_json(const char *processor, const char *version) {
    json_writer json = {0};
    json_object(&json, NULL);
    json_text(&json, "op", "machine");
    json_text(&json, "version", version);
    json_text(&json, "processor", processor);
    json_int(&json, "cores", machine_cores());
    json_int(&json, "cache_l1", (int64_t)machine_cache_bytes(1));
    json_int(&json, "cache_l2", (int64_t)machine_cache_bytes(2));
    json_int(&json, "cache_l3", (int64_t)machine_cache_bytes(3));
    json_int(&json, "memory_total", (int64_t)machine_memory_total());
    json_int(&json, "memory_free", (int64_t)machine_memory_available());
    json_object(&json, "environment");
    for (size_t i = 0; i < VARIABLES; ++i)
        if (getenv(variables[i]))
            json_text(&json, variables[i], getenv(variables[i]));
    json_object_end(&json);
    json_object_end(&json);
}

static void print_device(const tenon_device_info *d) {
    char a[32], b[32];
    printf("\n%-12s %s\n", d->id, d->usable ? "usable" : "not usable");
    if (!d->usable)
        printf("  %-10s %s\n", "because", *d->reason ? d->reason : "no reason was given");
    if (*d->name)
        printf("  %-10s %s%s%s%s\n", "name", d->name, *d->vendor ? " (" : "", d->vendor,
               *d->vendor ? ")" : "");
    if (*d->instruction_sets)
        printf("  %-10s %s\n", "sets", d->instruction_sets);
    if (d->cores)
        printf("  %-10s %d\n", "cores", d->cores);
    const uint64_t caches[] = {d->cache_l1, d->cache_l2, d->cache_l3};
    for (int level = 0, shown = 0; level < 3; ++level)
        if (caches[level]) {
            const char *label = shown ? "," : "  caches    ";
            printf("%s L%d %s", label, level + 1, table_bytes((size_t)caches[level], a, sizeof a));
            shown = 1;
        }
    if (caches[0] || caches[1] || caches[2])
        putchar('\n');
    if (d->memory_total)
        printf("  %-10s %s, %s free\n", "memory", table_bytes((size_t)d->memory_total, a, sizeof a),
               table_bytes((size_t)d->memory_free, b, sizeof b));
}

static void device_json(const tenon_device_info *d) {
    json_writer json = {0};
    json_object(&json, NULL);
    json_text(&json, "op", "device");
    json_text(&json, "id", d->id);
    json_text(&json, "backend", d->backend);
    json_bool(&json, "usable", d->usable != 0);
    json_text(&json, "reason", d->usable ? NULL : d->reason);
    json_text(&json, "name", d->name);
    json_text(&json, "vendor", d->vendor);
    json_list(&json, "instruction_sets");
    for (const char *word = d->instruction_sets; *word;) {
        char set[sizeof d->instruction_sets];
        const size_t length = strcspn(word, " ");
        snprintf(set, sizeof set, "%.*s", (int)length, word);
        if (length)
            json_text(&json, NULL, set);
        word += length + (word[length] == ' ');
    }
    json_list_end(&json);
    json_int(&json, "cores", d->cores);
    json_int(&json, "cache_l1", (int64_t)d->cache_l1);
    json_int(&json, "cache_l2", (int64_t)d->cache_l2);
    json_int(&json, "cache_l3", (int64_t)d->cache_l3);
    json_int(&json, "memory_total", (int64_t)d->memory_total);
    json_int(&json, "memory_free", (int64_t)d->memory_free);
    json_object_end(&json);
}

int command_info(int argc, char **argv) {
    bool json = false;
    const options_row rows[] = {
        {"--json", NULL, "one JSON object per line", NULL, &json},
        {0},
    };
    const options_command command = {
        "tenon info", "Shows the machine and the devices tenon sees in it.", notes, rows};
    const options_outcome outcome = options_parse(&command, argc, argv);
    if (outcome != OPTIONS_RUN)
        return outcome == OPTIONS_HELP ? EXIT_FINE : EXIT_USAGE;

    char processor[128], version[32];
    machine_processor(processor, sizeof processor);
    const int number = tenon_version();
    snprintf(version, sizeof version, "%d.%d.%d", number / 10000, number / 100 % 100, number % 100);
    if (json)
        machine_json(processor, version);
    else
        print_machine(processor, version);
    for (int i = 0; i < tenon_device_count(); ++i) {
        tenon_device_info device = {.struct_size = sizeof device};
        if (tenon_device_get(i, &device) != TENON_OK) {
            complain("%s", tenon_error_message(NULL));
            return EXIT_FAILED;
        }
        if (json)
            device_json(&device);
        else
            print_device(&device);
    }
    return EXIT_FINE;
}
