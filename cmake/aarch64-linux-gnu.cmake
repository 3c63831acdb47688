# Cross-compile for 64-bit ARM: cmake -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake
# It takes Debian's and Ubuntu's package g++-aarch64-linux-gnu; tests run under the emulator of qemu-user, if it is there.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
find_program(OFA_TVM_EMULATOR qemu-aarch64)
if(OFA_TVM_EMULATOR)
  set(CMAKE_CROSSCOMPILING_EMULATOR ${OFA_TVM_EMULATOR} -L /usr/aarch64-linux-gnu)
endif()
