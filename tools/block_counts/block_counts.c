/* SPDX-License-Identifier: GPL-2.0-or-later
 *
 * A plugin for qemu's user emulation: how often each translated block of a program runs.
 * Argument: out=FILE. Each line of it: address, instructions, and runs of a block, in decimal.
 * With bytes=1 each line ends in the block's code too, in hexadecimal: it may lie in any library.
 *
 * Debian ships no header for plugins, so what is used of the interface (version 1) is declared here. */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id_t;
typedef struct tb tb_t;
typedef struct insn insn_t;
extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id_t id, void (*translated)(plugin_id_t, tb_t *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(tb_t *block, int add, void *counter, uint64_t amount);
extern void qemu_plugin_register_atexit_cb(plugin_id_t id, void (*at_exit)(plugin_id_t, void *), void *data);
extern size_t qemu_plugin_tb_n_insns(const tb_t *block);
extern uint64_t qemu_plugin_tb_vaddr(const tb_t *block);
extern insn_t *qemu_plugin_tb_get_insn(const tb_t *block, size_t index);
extern const void *qemu_plugin_insn_data(const insn_t *insn);
extern size_t qemu_plugin_insn_size(const insn_t *insn);

#define EXPORTED __attribute__((visibility("default")))
EXPORTED int qemu_plugin_version = 1;

/* A block that is translated again gets another counter; readers add them up. */
typedef struct counter {
  uint64_t address, instructions, runs;
  char *code;
  struct counter *next;
} counter_t;

static counter_t *counters;
static char *out;
static int bytes;

static char *code_of(const tb_t *block) {
  size_t length = 0, count = qemu_plugin_tb_n_insns(block);
  for (size_t i = 0; i < count; ++i) length += 2 * qemu_plugin_insn_size(qemu_plugin_tb_get_insn(block, i));
  char *code = malloc(length + 1), *end = code;
  if (!code) abort();
  *end = 0;
  for (size_t i = 0; i < count; ++i) {
    const insn_t *insn = qemu_plugin_tb_get_insn(block, i);
    const unsigned char *data = qemu_plugin_insn_data(insn);
    for (size_t j = 0; j < qemu_plugin_insn_size(insn); ++j) end += sprintf(end, "%02x", data[j]);
  }
  return code;
}

static void translated(plugin_id_t id, tb_t *block) {
  counter_t *made = calloc(1, sizeof *made);
  if (!made) abort();
  made->address = qemu_plugin_tb_vaddr(block);
  made->instructions = qemu_plugin_tb_n_insns(block);
  made->code = bytes ? code_of(block) : 0;
  made->next = counters;
  counters = made;
  qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &made->runs, 1);
}

static void at_exit(plugin_id_t id, void *unused) {
  FILE *file = fopen(out, "w");
  if (!file) return;
  for (const counter_t *one = counters; one; one = one->next)
    if (one->runs)
      fprintf(file, "%" PRIu64 " %" PRIu64 " %" PRIu64 "%s%s\n", one->address, one->instructions, one->runs,
              one->code ? " " : "", one->code ? one->code : "");
  fclose(file);
}

EXPORTED int qemu_plugin_install(plugin_id_t id, const void *info, int count, char **arguments) {
  for (int i = 0; i < count; ++i) {
    if (!strncmp(arguments[i], "out=", 4)) out = strdup(arguments[i] + 4);
    if (!strcmp(arguments[i], "bytes=1")) bytes = 1;
  }
  if (!out) return -1;
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_atexit_cb(id, at_exit, 0);
  return 0;
}
