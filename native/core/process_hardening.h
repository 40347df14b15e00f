#ifndef DEKD_CORE_PROCESS_HARDENING_H_
#define DEKD_CORE_PROCESS_HARDENING_H_

#include <cstdint>

namespace dekd {

// Measures as bits; the numbers are the contract with JavaScript.
enum Hardening : uint32_t {
  // RLIMIT_CORE 0: no core file of this process or its children.
  kNoCoreFile = 1U << 0,
  // coredump_filter 0: nothing in it should a core handler write one nevertheless.
  kEmptyCoreFilter = 1U << 1,
  // PR_SET_DUMPABLE 0: no ptrace and no /proc/PID/mem for other processes of the same uid.
  kNotDumpable = 1U << 2,
  // PR_SET_NO_NEW_PRIVS: no setuid program run from here gains anything.
  kNoNewPrivileges = 1U << 3,
};

// harden_process takes all measures and returns those that were taken. They hold for the rest of the process's life.
uint32_t harden_process();

}  // namespace dekd

#endif  // DEKD_CORE_PROCESS_HARDENING_H_
