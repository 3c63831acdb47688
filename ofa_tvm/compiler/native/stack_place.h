/* LLVM keeps vectors of 32 and 64 bytes on the stack at multiples of 16. One that straddles two pages costs dozens of
   cycles whenever it is stored or loaded, and where that is in an inner loop, a network is up to a sixth slower for as
   long as its process lives: systems begin the stack at a random place. So kernels are called with the stack in the
   middle of a page, which their frames seldom leave. */
#define PAGE 4096
#define STACK_PLACE 2048

/* In a function that is not inlined, before it calls kernels. */
#define PLACE_STACK()                                                                                   \
  do {                                                                                                  \
    const uintptr_t here = (uintptr_t)__builtin_frame_address(0);                                       \
    __asm__ volatile("" : : "r"(__builtin_alloca((here + PAGE - STACK_PLACE) % PAGE + 16)) : "memory"); \
  } while (0)
