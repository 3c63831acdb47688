/* Kernels keep values on the stack. A processor takes a load from a place there for one from a map or a weight whose
   address ends in the same twelve bits ("4K aliasing"), and where that happens in an inner loop, a network is up to a
   sixth slower, in one process of twenty, for as long as it lives: systems begin the stack at a random place. So
   kernels are called with the stack at the same place of a page, one that was good in all networks that were tried. */
#define PAGE 4096
#define STACK_PLACE 2048

/* In a function that is not inlined, before it calls kernels. */
#define PLACE_STACK()                                                                                   \
  do {                                                                                                  \
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);                                       \
    __asm__ volatile("" : : "r"(__builtin_alloca((here + PAGE - STACK_PLACE) % PAGE + 16)) : "memory"); \
  } while (0)
