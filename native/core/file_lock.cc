#include "file_lock.h"

#include <sys/file.h>

#include <cerrno>

namespace dekd {

FileLock lock_file(int fd) {
  while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return FileLock::kHeldElsewhere;
    }
    if (errno != EINTR) {
      return FileLock::kFailed;
    }
  }
  return FileLock::kTaken;
}

}  // namespace dekd
