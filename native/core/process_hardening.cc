#include "process_hardening.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

namespace dekd {
namespace {

bool no_core_file() {
  const rlimit none{0, 0};
  return setrlimit(RLIMIT_CORE, &none) == 0;
}

bool empty_core_filter() {
  const int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);
  if (fd < 0) {
    return false;
  }
  const bool written = write(fd, "0", 1) == 1;
  return close(fd) == 0 && written;
}

}  // namespace

// The filter comes before PR_SET_DUMPABLE: after that, files in /proc/self belong to root and a plain uid can no longer
// write them.
uint32_t harden_process() {
  uint32_t taken = 0;
  taken |= no_core_file() ? kNoCoreFile : 0U;
  taken |= empty_core_filter() ? kEmptyCoreFilter : 0U;
  taken |= prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 ? kNotDumpable : 0U;
  taken |= prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? kNoNewPrivileges : 0U;
  return taken;
}

}  // namespace dekd
