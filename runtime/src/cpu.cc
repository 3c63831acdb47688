#include "cpu.h"

#include <elf.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include "error.h"
#include "file.h"

namespace ofa_tvm {
namespace {

#if defined(__x86_64__)
constexpr int kOwnMachine = EM_X86_64;
#elif defined(__aarch64__)
constexpr int kOwnMachine = EM_AARCH64;
#else
constexpr int kOwnMachine = EM_NONE;
#endif

const char kDeployHint[] = "deploy for this CPU: python -m ofa_tvm.deploy --target ...";

std::string name_of(int machine) {
  if (machine == EM_X86_64) return "x86-64";
  if (machine == EM_AARCH64) return "aarch64";
  return "architecture " + std::to_string(machine);
}

bool asks_for(const Target &target, const std::string &feature) {
  return std::find(target.mattr.begin(), target.mattr.end(), "+" + feature) != target.mattr.end();
}

// A feature that the target needs and this CPU lacks; empty where there is none.
std::string missing_feature(const Target &target) {
#if defined(__x86_64__)
  // What LLVM's names of CPUs imply; a name that is not here is tried.
  const std::vector<std::string> avx2 = {"haswell", "broadwell", "skylake",   "alderlake",  "raptorlake", "znver1",
                                         "znver2",  "znver3",    "x86-64-v3", "meteorlake", "gracemont",  "arrowlake"};
  const std::vector<std::string> avx512 = {"skylake-avx512", "cascadelake", "cooperlake",     "cannonlake",
                                           "icelake-client", "tigerlake",   "icelake-server", "rocketlake",
                                           "sapphirerapids", "x86-64-v4",   "emeraldrapids",  "graniterapids",
                                           "znver4",         "znver5"};
  const bool needs_avx512 = asks_for(target, "avx512f") || std::count(avx512.begin(), avx512.end(), target.mcpu);
  const bool needs_avx2 = needs_avx512 || asks_for(target, "avx2") || std::count(avx2.begin(), avx2.end(), target.mcpu);
  if (needs_avx2 && !__builtin_cpu_supports("avx2")) return "AVX2";
  if (needs_avx2 && !__builtin_cpu_supports("fma")) return "FMA";
  if (needs_avx512 && !__builtin_cpu_supports("avx512f")) return "AVX-512";
#elif defined(__aarch64__)
  const unsigned long known = getauxval(AT_HWCAP);
  if (!(known & HWCAP_ASIMD)) return "Advanced SIMD (NEON)";
  if (asks_for(target, "sve") && !(known & HWCAP_SVE)) return "SVE";
#else
  (void)target;
#endif
  return "";
}

bool lies_within(const Bytes &content, uint64_t begin, uint64_t bytes) {
  return begin <= content.size() && bytes <= content.size() - begin;
}

// Whether all segments and sections end within the file.
bool is_whole(const Bytes &content, const Elf64_Ehdr &header) {
  const uint64_t segments = header.e_phnum, sections = header.e_shnum;
  if (header.e_phentsize != sizeof(Elf64_Phdr) || (sections && header.e_shentsize != sizeof(Elf64_Shdr)) ||
      !lies_within(content, header.e_phoff, segments * sizeof(Elf64_Phdr)) ||
      !lies_within(content, header.e_shoff, sections * sizeof(Elf64_Shdr))) {
    return false;
  }
  for (uint64_t i = 0; i < segments; ++i) {
    Elf64_Phdr segment;
    std::memcpy(&segment, &content[header.e_phoff + i * sizeof segment], sizeof segment);
    if (!lies_within(content, segment.p_offset, segment.p_filesz) || segment.p_filesz > segment.p_memsz) return false;
  }
  for (uint64_t i = 0; i < sections; ++i) {
    Elf64_Shdr section;
    std::memcpy(&section, &content[header.e_shoff + i * sizeof section], sizeof section);
    if (section.sh_type != SHT_NOBITS && !lies_within(content, section.sh_offset, section.sh_size)) return false;
  }
  return true;
}

char explanation[512];

// Only what is allowed in a signal handler.
void explain(int) {
  ssize_t written = write(STDERR_FILENO, explanation, std::strlen(explanation));
  _exit(written < 0 ? 1 : 1);
}

}  // namespace

void check_library(const std::string &library, const Bytes &content, const Target *target) {
  Elf64_Ehdr header;
  if (content.size() < sizeof header || std::memcmp(content.data(), ELFMAG, SELFMAG) != 0 ||
      content[EI_CLASS] != ELFCLASS64 || content[EI_DATA] != ELFDATA2LSB) {
    throw bad_input(library + " is not a library", "give a model.so that ofa_tvm made");
  }
  std::memcpy(&header, content.data(), sizeof header);
  if (header.e_machine != kOwnMachine) {
    throw failed(library + " is for " + name_of(header.e_machine) + ", this is " + name_of(kOwnMachine), kDeployHint);
  }
  if (!is_whole(content, header))
    throw bad_input(library + " is cut off or damaged", "copy it again from where it was made");
  if (!target) return;
  const std::string missing = missing_feature(*target);
  if (missing.empty()) return;
  throw failed("this CPU lacks " + missing + ", which the bundle for " + target->mcpu + " uses", kDeployHint);
}

void explain_illegal_instructions(const std::string &mcpu) {
  std::snprintf(explanation, sizeof explanation,
                "error: this CPU lacks an instruction that the bundle for %.100s uses\n  %s\n",
                mcpu.empty() ? "another CPU" : mcpu.c_str(), kDeployHint);
  struct sigaction action = {};
  action.sa_handler = explain;
  sigaction(SIGILL, &action, nullptr);
}

}  // namespace ofa_tvm
