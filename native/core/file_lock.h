#ifndef DEKD_CORE_FILE_LOCK_H_
#define DEKD_CORE_FILE_LOCK_H_

namespace dekd {

enum class FileLock { kTaken, kHeldElsewhere, kFailed };

// lock_file takes the exclusive flock of an open file without waiting. The lock belongs to the open file description:
// it ends when the last descriptor of it is closed, and so with the process, however that ends. kFailed leaves errno.
FileLock lock_file(int fd);

}  // namespace dekd

#endif  // DEKD_CORE_FILE_LOCK_H_
