#ifndef DEKD_CORE_OWNED_FD_H_
#define DEKD_CORE_OWNED_FD_H_

#include <unistd.h>

#include <cerrno>
#include <utility>

namespace dekd {

// OwnedFd closes its descriptor when it ends. errno stays as it was, so that the reason of a failure survives the
// cleaning up.
class OwnedFd final {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() {
    if (fd_ >= 0) {
      const int reason = errno;
      close(fd_);
      errno = reason;
    }
  }

  int get() const { return fd_; }
  // The descriptor is the caller's from here on.
  int release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

}  // namespace dekd

#endif  // DEKD_CORE_OWNED_FD_H_
