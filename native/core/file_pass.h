#ifndef DEKD_CORE_FILE_PASS_H_
#define DEKD_CORE_FILE_PASS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>

#include "key_table.h"
#include "lane_region.h"
#include "owned_fd.h"
#include "status.h"

namespace dekd {

// What one step of a pass did.
struct FileStep final {
  // Bytes read and written by this step.
  uint64_t read = 0;
  uint64_t written = 0;
  // The message is whole: there is no further step.
  bool ended = false;
  // Opening: the file goes on behind the end of its message.
  bool trailing = false;
};

// FilePass reads a file of a peer, makes a message of it or opens one, and writes another file of the peer, in steps of
// bounded work at constant memory. Both files are named by descriptors alone: no path is followed. It is for a thread
// that may wait for a disk; one call at a time.
//
// The files can change meanwhile. What is worked on was read into private memory once, and plaintext is written only
// after the frame it is of was verified.
class FilePass final {
 public:
  ~FilePass();
  FilePass(const FilePass&) = delete;
  FilePass& operator=(const FilePass&) = delete;

  // Takes two descriptors over, after looking at all that the peer could have got wrong: two different regular
  // files, the first open to be read, the second, which is empty, to be written; none with O_PATH or O_APPEND; none on
  // a file system that can keep a thread waiting for somebody (network, FUSE) or that the kernel makes up (/proc), and the second on none that keeps what is
  // written in memory. Looking may itself wait for such a file system, and so may closing what was refused.
  static LaneFault open(OwnedFd source, OwnedFd target, std::shared_ptr<FilePass>& pass);

  // Reads the source at `offset`; `length` is less than out.size() only at its end. kSystemFailed with errno.
  Status read(uint64_t offset, std::span<uint8_t> out, size_t& length);

  // The next step of a message: seals what comes next of the source with frames of `frame_length` bytes, and writes it
  // behind `header`, which is written first. kSystemFailed with errno.
  Status seal(KeyTable& table, KeyHandle message, uint32_t frame_length, std::span<const uint8_t> header,
              FileStep& step);

  // The next step of a framed message whose body begins at `body` of the source. A step that has not ended and read nothing
  // is at the end of a message that is cut short. kAuthenticationFailed, kSystemFailed with errno.
  Status open_frames(KeyTable& table, KeyHandle message, uint32_t frame_length, uint64_t body, FileStep& step);

 private:
  FilePass(OwnedFd source, OwnedFd target) : source_(std::move(source)), target_(std::move(target)) {}

  Status seal_once(KeyTable& table, KeyHandle message, uint32_t frame_length, FileStep& step);
  Status open_once(KeyTable& table, KeyHandle message, FileStep& step);
  Status write(std::span<const uint8_t> bytes);
  // Makes both buffers, of which the first is `input` bytes and the second `output`.
  Status make_room(size_t input, size_t output);

  OwnedFd source_;
  OwnedFd target_;
  std::mutex one_call_;
  std::span<uint8_t> input_;
  std::span<uint8_t> output_;
  std::span<uint8_t> mapping_;
  uint64_t source_at_ = 0;
  uint64_t target_at_ = 0;
  bool begun_ = false;
};

}  // namespace dekd

#endif  // DEKD_CORE_FILE_PASS_H_
