// What the compiler's own libraries and the start of a program ask of glibc, passed on to its first versions.
#include "old_glibc.h"

#ifdef OFA_TVM_FIRST_GLIBC

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>

#define HIDDEN __attribute__((visibility("hidden")))

extern "C" {

using Main = int (*)(int, char **, char **);
using Prepare = void (*)(int, char **, char **);
using Finish = void (*)();

int first_start(Main, int, char **, Prepare, Finish, Finish, void *);
OFA_TVM_FIRST_VERSION(first_start, __libc_start_main);
int first_once(pthread_once_t *, Finish);
OFA_TVM_FIRST_VERSION(first_once, pthread_once);
int first_key_create(pthread_key_t *, void (*)(void *));
OFA_TVM_FIRST_VERSION(first_key_create, __pthread_key_create);

#if __GLIBC_PREREQ(2, 32)
HIDDEN char __libc_single_threaded = 0;  // counters are atomic: right with one thread, too
#endif

extern HIDDEN const Prepare __init_array_start[], __init_array_end[];

// Programs of old had a part that ran their constructors, and an old glibc leaves them to it.
static void run_constructors(int count, char **arguments, char **environment) {
  for (const Prepare *at = __init_array_start; at != __init_array_end; ++at) (*at)(count, arguments, environment);
}

HIDDEN int __libc_start_main(Main main, int count, char **arguments, Prepare, Finish, Finish finish, void *stack_end) {
  return first_start(main, count, arguments, run_constructors, nullptr, finish, stack_end);
}

HIDDEN int pthread_once(pthread_once_t *once, Finish function) { return first_once(once, function); }

HIDDEN int __pthread_key_create(pthread_key_t *key, void (*finish)(void *)) { return first_key_create(key, finish); }

#if __GLIBC_PREREQ(2, 35)

static int find_object(dl_phdr_info *object, size_t, void *wanted) {
  auto *found = static_cast<dl_find_object *>(wanted);
  const auto address = reinterpret_cast<ElfW(Addr)>(found->dlfo_map_start);
  bool inside = false;
  void *unwind_table = nullptr;
  for (int i = 0; i < object->dlpi_phnum; ++i) {
    const ElfW(Phdr) &part = object->dlpi_phdr[i];
    const ElfW(Addr) start = object->dlpi_addr + part.p_vaddr;
    if (part.p_type == PT_LOAD && address - start < part.p_memsz) inside = true;
    if (part.p_type == PT_GNU_EH_FRAME) unwind_table = reinterpret_cast<void *>(start);
  }
  if (inside) found->dlfo_eh_frame = unwind_table;
  return inside && unwind_table;
}

// How an exception finds the code that it passes through; the glibc that brought the function is younger than 2.31.
HIDDEN int _dl_find_object(void *address, dl_find_object *found) noexcept {
  *found = {};
  found->dlfo_map_start = address;
  return dl_iterate_phdr(find_object, found) ? 0 : -1;
}

#endif

}  // extern "C"

#endif
