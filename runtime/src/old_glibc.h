// Functions as glibc has had them from the start, so that a runner linked on a new system also starts on an old one.
//
// glibc 2.34 gave what it moved into libc.so new versions; a program linked with it asks for those. The first versions
// are still there, in every glibc.
#pragma once

#include <features.h>

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34) && defined(__x86_64__)
#define OFA_TVM_FIRST_GLIBC "GLIBC_2.2.5"
#elif defined(__GLIBC__) && __GLIBC_PREREQ(2, 34) && defined(__aarch64__)
#define OFA_TVM_FIRST_GLIBC "GLIBC_2.17"
#endif

// Let `name` in this file be the first version of glibc's `function`.
#ifdef OFA_TVM_FIRST_GLIBC
#define OFA_TVM_FIRST_VERSION(name, function) __asm__(".symver " #name ", " #function "@" OFA_TVM_FIRST_GLIBC)
#else
#define OFA_TVM_FIRST_VERSION(name, function) static_assert(true)
#endif
