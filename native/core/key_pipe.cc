#include "key_pipe.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "bytes.h"
#include "data_key.h"
#include "key_wrap.h"
#include "legacy.h"
#include "secret.h"

namespace dekd {
namespace {

// TransientPages holds the plaintext of one call: pages of its own rather than heap, so that they can be locked and
// left out of core files and forks, and are gone from the process at its end. Locking is tried and not demanded: the
// key table may have used up the limit, and the bytes live for microseconds.
class TransientPages final {
 public:
  explicit TransientPages(size_t size) {
    void* const mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) {
      return;
    }
    bytes_ = {static_cast<uint8_t*>(mapped), size};
    (void)mlock(mapped, size);
    (void)madvise(mapped, size, MADV_DONTDUMP);
    (void)madvise(mapped, size, MADV_DONTFORK);
  }
  ~TransientPages() {
    if (!bytes_.empty()) {
      wipe(bytes_);
      munmap(bytes_.data(), bytes_.size());
    }
  }
  TransientPages(const TransientPages&) = delete;
  TransientPages& operator=(const TransientPages&) = delete;

  // Empty, with errno, when there was no memory.
  std::span<uint8_t> bytes() const { return bytes_; }

 private:
  std::span<uint8_t> bytes_;
};

bool travels(KeyUse use) { return use == kPipedUse || use == kDataKeyUse; }

// Gathers head and body instead of joining them: the body goes from where it lies to the kernel with no copy between.
Status write_frame(int fd, uint32_t id, std::span<const uint8_t> body) {
  uint8_t head[kFrameHeadLength];
  put_big_endian(id, 4, head);
  put_big_endian(body.size(), 4, head + 4);
  size_t written = 0;
  while (written < sizeof head + body.size()) {
    const size_t of_head = std::min(written, sizeof head);
    const std::span<const uint8_t> rest = body.subspan(written - of_head);
    // The kernel only reads; iovec has no const.
    const iovec parts[] = {{head + of_head, sizeof head - of_head}, {const_cast<uint8_t*>(rest.data()), rest.size()}};
    const ssize_t count = writev(fd, parts, 2);
    if (count < 0 && errno != EINTR) {
      return Status::kPipeFailed;
    }
    // Frames over PIPE_BUF may be taken in part; what is left then waits for the reader or fails with EAGAIN.
    written += count < 0 ? 0 : static_cast<size_t>(count);
  }
  return Status::kOk;
}

Status read_whole(int fd, std::span<uint8_t> out) {
  size_t filled = 0;
  while (filled < out.size()) {
    const ssize_t count = read(fd, out.data() + filled, out.size() - filled);
    if (count == 0) {
      return Status::kPipeEnded;
    }
    if (count < 0 && errno != EINTR) {
      return Status::kPipeFailed;
    }
    filled += count < 0 ? 0 : static_cast<size_t>(count);
  }
  return Status::kOk;
}

// Reads the head of frame `id`; the length of its body must be from `least` to `most`.
Status read_head(int fd, uint32_t id, uint32_t least, uint32_t most, uint32_t& length) {
  uint8_t head[kFrameHeadLength];
  const Status status = read_whole(fd, head);
  if (status != Status::kOk) {
    return status;
  }
  length = static_cast<uint32_t>(get_big_endian(head + 4, 4));
  return get_big_endian(head, 4) == id && length >= least && length <= most ? Status::kOk : Status::kUnexpectedFrame;
}

}  // namespace

bool open_pipe(PipeEnd own, PipeEnds& ends) {
  int made[2];
  if (pipe2(made, O_CLOEXEC) != 0) {
    return false;
  }
  // Only this end: the flag belongs to the open file description, and a child would share it.
  const int end = made[own == PipeEnd::kRead ? 0 : 1];
  const int flags = fcntl(end, F_GETFL);
  if (flags < 0 || fcntl(end, F_SETFL, flags | O_NONBLOCK) != 0) {
    const int error = errno;
    close(made[0]);
    close(made[1]);
    errno = error;
    return false;
  }
  ends = {made[0], made[1]};
  return true;
}

Status send_key(KeyTable& table, int fd, uint32_t id, KeyHandle key) {
  KeyTable::Lease lease;
  if (!table.lease(key, lease)) {
    return Status::kStaleKey;
  }
  if (!travels(lease.use())) {
    return Status::kWrongUse;
  }
  return write_frame(fd, id, lease.key());
}

Result<KeyHandle> receive_key(KeyTable& table, int fd, uint32_t id, KeyUse use, uint32_t owner) {
  const StackScrub scrub;
  if (!travels(use)) {
    return Status::kWrongUse;
  }
  uint32_t length = 0;
  Status status = read_head(fd, id, kKeyLength, kKeyLength, length);
  if (status != Status::kOk) {
    return status;
  }
  KeyTable::Reservation reservation;
  const Status reserved = table.reserve(use, owner, reservation);
  if (reserved != Status::kOk) {
    Secret<kKeyLength> lost;
    status = read_whole(fd, lost.bytes());
    return status == Status::kOk ? reserved : status;
  }
  status = read_whole(fd, reservation.slot().key);
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, use);
}

Result<uint32_t> receive_sealed(KeyTable& table, int fd, uint32_t id, KeyHandle key, std::span<const uint8_t> context,
                                std::span<uint8_t> out) {
  const StackScrub scrub;
  if (out.size() != kMaxPipedToken) {
    return Status::kInvalidArgument;
  }
  uint32_t length = 0;
  Status status = read_head(fd, id, 1, kMaxPipedLength, length);
  if (status != Status::kOk) {
    return status;
  }
  const TransientPages pages(length);
  if (pages.bytes().empty()) {
    return Status::kPipeFailed;
  }
  status = read_whole(fd, pages.bytes());
  if (status == Status::kOk) {
    status = seal_token(table, key, context, pages.bytes(), out.first(length + kTokenOverhead));
  }
  if (status != Status::kOk) {
    return status;
  }
  return static_cast<uint32_t>(length + kTokenOverhead);
}

Status send_opened(KeyTable& table, int fd, uint32_t id, KeyHandle key, std::span<const uint8_t> token,
                   std::span<const uint8_t> context) {
  const StackScrub scrub;
  // No token of receive_sealed has such a length.
  if (token.size() <= kTokenOverhead || token.size() > kMaxPipedToken) {
    return Status::kAuthenticationFailed;
  }
  const TransientPages pages(token.size() - kTokenOverhead);
  if (pages.bytes().empty()) {
    return Status::kPipeFailed;
  }
  const Status status = open_token(table, key, context, token, pages.bytes());
  return status == Status::kOk ? write_frame(fd, id, pages.bytes()) : status;
}

Result<KeyHandle> import_secret(KeyTable& table, std::span<uint8_t> bytes, KeyUse use, uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Reservation reservation;
  Status status = Status::kOk;
  if (bytes.size() != kKeyLength) {
    status = Status::kInvalidArgument;
  } else if (!travels(use) && use != kLegacyUse) {
    status = Status::kWrongUse;
  } else {
    status = table.reserve(use, owner, reservation);
  }
  if (status == Status::kOk) {
    std::memcpy(reservation.slot().key, bytes.data(), kKeyLength);
  }
  wipe(bytes);
  if (status != Status::kOk) {
    return status;
  }
  return finish_key(reservation, use);
}

Status expose_secret(KeyTable& table, KeyHandle key, std::span<uint8_t, kKeyLength> out) {
  KeyTable::Lease lease;
  if (!table.lease(key, lease)) {
    return Status::kStaleKey;
  }
  if (!travels(lease.use())) {
    return Status::kWrongUse;
  }
  std::memcpy(out.data(), lease.key().data(), out.size());
  return Status::kOk;
}

}  // namespace dekd
