#include "file_pass.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "message.h"
#include "secret.h"

namespace dekd {
namespace {

// Bytes of plaintext worked on at once: they stay in the processor's cache between the two copies.
constexpr size_t kPiece = size_t{1} << 20;
// Work of one step: a few milliseconds.
constexpr uint64_t kStep = uint64_t{16} << 20;
// A frame is held whole.
constexpr uint32_t kMaxFrame = uint32_t{1} << 20;

// What a server or another process answers for: waiting for it cannot be bounded.
bool may_wait_for_others(long type) {
  constexpr long kNetwork[] = {FUSE_SUPER_MAGIC, NFS_SUPER_MAGIC, SMB_SUPER_MAGIC, V9FS_MAGIC, AFS_SUPER_MAGIC,
                               CODA_SUPER_MAGIC, AFS_FS_MAGIC,    0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */,
                               0x00c36400 /* Ceph */};
  return std::find(std::begin(kNetwork), std::end(kNetwork), type) != std::end(kNetwork);
}

// What the kernel makes up: it may ask who reads or writes, and that would be us and not who opened it.
bool is_made_up(long type) {
  constexpr long kMadeUp[] = {PROC_SUPER_MAGIC,   SYSFS_MAGIC,   DEBUGFS_MAGIC,       TRACEFS_MAGIC,
                              CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, SECURITYFS_MAGIC, SELINUX_MAGIC,
                              SMACK_MAGIC,        BPF_FS_MAGIC,  EFIVARFS_MAGIC,      PSTOREFS_MAGIC,
                              BINFMTFS_MAGIC,     NSFS_MAGIC,    ANON_INODE_FS_MAGIC, SOCKFS_MAGIC};
  return std::find(std::begin(kMadeUp), std::end(kMadeUp), type) != std::end(kMadeUp);
}

// What is written there is memory of whoever writes it.
bool is_memory(long type) { return type == TMPFS_MAGIC || type == RAMFS_MAGIC || type == HUGETLBFS_MAGIC; }

LaneFault look(int fd, int wanted, struct stat& file, long& system_type) {
  const int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fstat(fd, &file) != 0 || !S_ISREG(file.st_mode)) {
    return LaneFault::kNotRegular;
  }
  const int mode = flags & O_ACCMODE;
  if ((flags & (O_PATH | O_APPEND)) != 0 || (mode != wanted && mode != O_RDWR)) {
    return LaneFault::kAccess;
  }
  struct statfs system {};
  if (fstatfs(fd, &system) != 0) {
    return LaneFault::kSystem;
  }
  system_type = static_cast<long>(system.f_type);
  return may_wait_for_others(system_type) || is_made_up(system_type) ? LaneFault::kFileSystem : LaneFault::kNone;
}

// Reads until `out` is full or the file ends.
Status read_fully(int fd, uint64_t offset, std::span<uint8_t> out, size_t& length) {
  length = 0;
  while (length < out.size()) {
    const ssize_t got = pread(fd, out.data() + length, out.size() - length, static_cast<off_t>(offset + length));
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return Status::kSystemFailed;
    }
    if (got == 0) {
      break;
    }
    length += static_cast<size_t>(got);
  }
  return Status::kOk;
}

}  // namespace

FilePass::~FilePass() {
  if (!mapping_.empty()) {
    // Plaintext, on one side or the other.
    wipe(mapping_);
    munmap(mapping_.data(), mapping_.size());
  }
}

LaneFault FilePass::open(OwnedFd source, OwnedFd target, std::shared_ptr<FilePass>& pass) {
  struct stat in {};
  struct stat out {};
  long in_system = 0;
  long out_system = 0;
  LaneFault fault = look(source.get(), O_RDONLY, in, in_system);
  fault = fault == LaneFault::kNone ? look(target.get(), O_WRONLY, out, out_system) : fault;
  if (fault != LaneFault::kNone) {
    return fault;
  }
  if (in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
    return LaneFault::kSameFile;
  }
  if (is_memory(out_system)) {
    return LaneFault::kFileSystem;
  }
  if (out.st_size != 0) {
    return LaneFault::kNotEmpty;
  }
  // Advice only.
  posix_fadvise(source.get(), 0, 0, POSIX_FADV_SEQUENTIAL);
  pass.reset(new FilePass(std::move(source), std::move(target)));
  return LaneFault::kNone;
}

Status FilePass::read(uint64_t offset, std::span<uint8_t> out, size_t& length) {
  const std::unique_lock lock(one_call_, std::try_to_lock);
  return lock.owns_lock() ? read_fully(source_.get(), offset, out, length) : Status::kInvalidArgument;
}

Status FilePass::make_room(size_t input, size_t output) {
  if (input_.size() == input && output_.size() == output) {
    return Status::kOk;
  }
  if (!mapping_.empty()) {
    // Another frame length than before: of one message there is one.
    return Status::kInvalidArgument;
  }
  void* const address =
      mmap(nullptr, input + output, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    return Status::kSystemFailed;
  }
  madvise(address, input + output, MADV_DONTFORK);
  madvise(address, input + output, MADV_DONTDUMP);
  mapping_ = {static_cast<uint8_t*>(address), input + output};
  input_ = mapping_.first(input);
  output_ = mapping_.subspan(input);
  return Status::kOk;
}

Status FilePass::write(std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t put =
        pwrite(target_.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(target_at_));
    if (put < 0 && errno == EINTR) {
      continue;
    }
    if (put <= 0) {
      errno = put == 0 ? ENOSPC : errno;
      return Status::kSystemFailed;
    }
    done += static_cast<size_t>(put);
    target_at_ += static_cast<uint64_t>(put);
  }
  return Status::kOk;
}

Status FilePass::seal(KeyTable& table, KeyHandle message, uint32_t frame_length, std::span<const uint8_t> header,
                      FileStep& step) {
  step = {};
  const std::unique_lock lock(one_call_, std::try_to_lock);
  if (!lock.owns_lock() || frame_length == 0 || frame_length > kMaxFrame) {
    return Status::kInvalidArgument;
  }
  const size_t frames = std::max<size_t>(1, kPiece / frame_length);
  // One byte more than is sealed says whether anything follows.
  Status status = make_room(frames * frame_length + 1, sealed_length(frames * frame_length, frame_length, true) +
                                                           kFrameOverhead);
  const uint64_t from = target_at_;
  if (status == Status::kOk && !begun_) {
    begun_ = true;
    status = write(header);
  }
  while (status == Status::kOk && !step.ended && step.read < kStep) {
    status = seal_once(table, message, frame_length, step);
  }
  step.written = target_at_ - from;
  // The disk works while the next step does. Advice only: the peer flushes the file himself.
  sync_file_range(target_.get(), static_cast<off_t>(from), static_cast<off_t>(step.written), SYNC_FILE_RANGE_WRITE);
  return status;
}

Status FilePass::seal_once(KeyTable& table, KeyHandle message, uint32_t frame_length, FileStep& step) {
  size_t length = 0;
  Status status = read_fully(source_.get(), source_at_, input_, length);
  if (status != Status::kOk) {
    return status;
  }
  const bool final = length < input_.size();
  // The byte that was looked at is read again with what follows it.
  length = final ? length : length - 1;
  const std::span<uint8_t> sealed = output_.first(sealed_length(length, frame_length, final));
  status = seal_frames(table, message, input_.first(length), final, sealed);
  if (status == Status::kOk) {
    status = write(sealed);
  }
  source_at_ += length;
  step.read += length;
  step.ended = final && status == Status::kOk;
  return status;
}

Status FilePass::open_frames(KeyTable& table, KeyHandle message, uint32_t frame_length, uint64_t body,
                             FileStep& step) {
  step = {};
  const std::unique_lock lock(one_call_, std::try_to_lock);
  if (!lock.owns_lock() || frame_length == 0 || frame_length > kMaxFrame) {
    return Status::kInvalidArgument;
  }
  const size_t frames = std::max<size_t>(1, kPiece / frame_length);
  const size_t room = frames * (frame_length + kFrameOverhead) + kFinalFrameOverhead;
  Status status = make_room(room, room);
  if (!begun_) {
    begun_ = true;
    source_at_ = body;
  }
  const uint64_t from = target_at_;
  uint64_t before = UINT64_MAX;
  while (status == Status::kOk && !step.ended && step.read < kStep && step.read != before) {
    before = step.read;
    status = open_once(table, message, step);
  }
  step.written = target_at_ - from;
  sync_file_range(target_.get(), static_cast<off_t>(from), static_cast<off_t>(step.written), SYNC_FILE_RANGE_WRITE);
  return status;
}

Status FilePass::open_once(KeyTable& table, KeyHandle message, FileStep& step) {
  size_t length = 0;
  Status status = read_fully(source_.get(), source_at_, input_, length);
  if (status != Status::kOk) {
    return status;
  }
  OpenedFrames opened;
  status = dekd::open_frames(table, message, input_.first(length), output_, opened);
  if (status != Status::kOk) {
    return status;
  }
  status = write(output_.first(opened.produced));
  source_at_ += opened.consumed;
  step.read += opened.consumed;
  if (status == Status::kOk && opened.final) {
    step.ended = true;
    uint8_t next = 0;
    size_t more = 0;
    status = read_fully(source_.get(), source_at_, {&next, 1}, more);
    step.trailing = more > 0;
  }
  return status;
}

}  // namespace dekd
