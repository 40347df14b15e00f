#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "../core/data_key.h"
#include "../core/file_pass.h"
#include "../core/key_wrap.h"
#include "../core/message.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;

// A folder on a disk: what is written must not be memory.
class Folder final {
 public:
  Folder() {
    char name[] = "/var/tmp/dekd-file-pass-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string at(const std::string& name) const { return path_ + "/" + name; }

  std::string put(const std::string& name, const Bytes& bytes) const {
    const OwnedFd fd(::open(at(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    expect(write(fd.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()));
    return at(name);
  }

  Bytes get(const std::string& name) const {
    const OwnedFd fd(::open(at(name).c_str(), O_RDONLY | O_CLOEXEC));
    Bytes bytes(static_cast<size_t>(lseek(fd.get(), 0, SEEK_END)));
    expect(pread(fd.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    return bytes;
  }

  OwnedFd open(const std::string& name, int flags) const {
    return OwnedFd(::open(at(name).c_str(), flags | O_CLOEXEC, 0600));
  }

 private:
  std::string path_;
};

LaneFault fault_of(int source, int target) {
  std::shared_ptr<FilePass> pass;
  const LaneFault fault = FilePass::open(OwnedFd(dup(source)), OwnedFd(dup(target)), pass);
  expect((fault == LaneFault::kNone) == (pass != nullptr));
  return fault;
}

// Keys of one message, and passes over files with it.
struct Fixture final {
  Folder folder;
  KeyTable table;
  KeyHandle data_key = 0;
  Bytes header = counting(70, 5);
  std::array<uint8_t, kMessageIdLength> id;
  std::array<uint8_t, kCommitmentLength> commitment;

  Fixture() {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    const Result<KeyHandle> made = generate_key(table, kDataKeyUse, 0);
    expect(made.ok());
    data_key = made.value();
  }

  std::shared_ptr<FilePass> pass(const std::string& from, const std::string& to) {
    std::shared_ptr<FilePass> made;
    expect(FilePass::open(folder.open(from, O_RDONLY), folder.open(to, O_WRONLY | O_CREAT | O_TRUNC), made) ==
           LaneFault::kNone);
    return made;
  }

  void seal(const Bytes& plaintext, uint32_t frame_length) {
    folder.put("plain", plaintext);
    const std::shared_ptr<FilePass> files = pass("plain", "message");
    const Result<KeyHandle> message = begin_message(table, data_key, frame_length, 0, id, commitment);
    std::array<uint8_t, kTagLength> tag;
    expect(message.ok() && seal_header(table, message.value(), header, {}, tag) == Status::kOk);
    header_tag = tag;
    FileStep step;
    uint64_t read = 0;
    while (!step.ended) {
      if (files->seal(table, message.value(), frame_length, header, step) != Status::kOk) {
        expect(false);
        return;
      }
      read += step.read;
    }
    expect(read == plaintext.size());
    table.destroy(message.value());
  }

  // Opens `message`, and says how it ended; `complete` whether it was whole and nothing followed.
  Status open(uint32_t frame_length, bool& complete) {
    const std::shared_ptr<FilePass> files = pass("message", "opened");
    const Result<KeyHandle> message =
        resume_message(table, data_key, MessageSuite::kCommitted, id, frame_length, commitment, 0);
    expect(message.ok() && verify_header(table, message.value(), header, {}, header_tag) == Status::kOk);
    FileStep step;
    Status status = Status::kOk;
    do {
      status = files->open_frames(table, message.value(), frame_length, header.size(), step);
    } while (status == Status::kOk && !step.ended && step.read > 0);
    complete = status == Status::kOk && step.ended && !step.trailing;
    table.destroy(message.value());
    return status;
  }

  std::array<uint8_t, kTagLength> header_tag;
};

const Test kPasses("files go through as messages and back, at sizes around every border of frames and pieces", [] {
  Fixture f;
  for (const uint32_t frame : {1u, 1000u, 65536u, 1u << 20}) {
    for (const size_t size : {size_t{0}, size_t{1}, size_t{frame} - 1, size_t{frame}, size_t{frame} + 1, size_t{2} * frame,
                              size_t{3000}, (size_t{1} << 20) + 1, (size_t{17} << 20) + 3}) {
      if (size / frame > 100000) {
        continue;
      }
      const Bytes plaintext = counting(size);
      f.seal(plaintext, frame);
      expect(f.folder.get("message").size() == f.header.size() + sealed_length(size, frame, true) ||
             (size > 0 && size % frame == 0));
      bool complete = false;
      expect(f.open(frame, complete) == Status::kOk && complete);
      expect(f.folder.get("opened") == plaintext);
    }
  }
});

const Test kBad("a message that is cut, changed or followed by something is not complete, and no byte of a bad frame is written", [] {
  Fixture f;
  constexpr uint32_t kFrame = 1000;
  const Bytes plaintext = counting(3500);
  f.seal(plaintext, kFrame);
  const Bytes message = f.folder.get("message");
  bool complete = true;
  const auto is_prefix = [&] {
    const Bytes opened = f.folder.get("opened");
    return opened.size() <= plaintext.size() && std::equal(opened.begin(), opened.end(), plaintext.begin());
  };
  for (size_t cut = f.header.size(); cut < message.size(); cut += 97) {
    f.folder.put("message", Bytes(message.begin(), message.begin() + static_cast<std::ptrdiff_t>(cut)));
    static_cast<void>(f.open(kFrame, complete));
    expect(!complete && is_prefix());
  }
  for (size_t at = f.header.size(); at < message.size(); at += 41) {
    Bytes changed = message;
    changed[at] ^= 0x10;
    f.folder.put("message", changed);
    static_cast<void>(f.open(kFrame, complete));
    expect(!complete && is_prefix());
  }
  Bytes longer = message;
  longer.push_back(0);
  f.folder.put("message", longer);
  expect(f.open(kFrame, complete) == Status::kOk && !complete);
});

const Test kFiles("anything but two different regular files, open as they have to be, is refused", [] {
  const Folder folder;
  folder.put("in", counting(10));
  folder.put("out", {});
  folder.put("full", counting(1));
  const OwnedFd in = folder.open("in", O_RDONLY);
  const OwnedFd out = folder.open("out", O_WRONLY);
  expect(fault_of(in.get(), out.get()) == LaneFault::kNone);
  expect(fault_of(folder.open("in", O_RDWR).get(), folder.open("out", O_RDWR).get()) == LaneFault::kNone);
  int ends[2];
  expect(pipe(ends) == 0);
  const OwnedFd read_end(ends[0]);
  const OwnedFd write_end(ends[1]);
  const OwnedFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const OwnedFd directory(open("/var/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  for (const int fd : {ends[0], ends[1], null.get(), directory.get(), -1}) {
    expect(fault_of(fd, out.get()) == LaneFault::kNotRegular);
    expect(fault_of(in.get(), fd) == LaneFault::kNotRegular);
  }
  expect(fault_of(folder.open("in", O_WRONLY).get(), out.get()) == LaneFault::kAccess);
  expect(fault_of(folder.open("in", O_PATH).get(), out.get()) == LaneFault::kAccess);
  expect(fault_of(in.get(), folder.open("out", O_RDONLY).get()) == LaneFault::kAccess);
  expect(fault_of(in.get(), folder.open("out", O_WRONLY | O_APPEND).get()) == LaneFault::kAccess);
  expect(fault_of(in.get(), folder.open("out", O_PATH).get()) == LaneFault::kAccess);
  expect(fault_of(in.get(), folder.open("full", O_WRONLY).get()) == LaneFault::kNotEmpty);
  expect(fault_of(in.get(), folder.open("in", O_WRONLY).get()) == LaneFault::kSameFile);
  expect(link(folder.at("in").c_str(), folder.at("again").c_str()) == 0);
  expect(fault_of(in.get(), folder.open("again", O_WRONLY).get()) == LaneFault::kSameFile);
});

const Test kMemory("a file to write that is memory is refused, and files that the kernel makes up", [] {
  const Folder folder;
  folder.put("in", counting(10));
  const OwnedFd memory(memfd_create("target", MFD_CLOEXEC));
  expect(fault_of(folder.open("in", O_RDONLY).get(), memory.get()) == LaneFault::kFileSystem);
  const OwnedFd status(open("/proc/self/status", O_RDONLY | O_CLOEXEC));
  const OwnedFd setting(open("/proc/self/comm", O_WRONLY | O_CLOEXEC));
  folder.put("out", {});
  expect(fault_of(status.get(), folder.open("out", O_WRONLY).get()) == LaneFault::kFileSystem);
  expect(fault_of(folder.open("in", O_RDONLY).get(), setting.get()) == LaneFault::kFileSystem);
});

const Test kOwn("a pass works on the files it was given, whatever becomes of their names and descriptors", [] {
  Fixture f;
  f.folder.put("plain", counting(5000));
  std::shared_ptr<FilePass> files = f.pass("plain", "message");
  std::filesystem::remove(f.folder.at("plain"));
  f.folder.put("plain", counting(9, 200));
  Bytes head(100);
  size_t length = 0;
  expect(files->read(4990, head, length) == Status::kOk && length == 10 && head[9] == counting(5000).back());
});

}  // namespace
}  // namespace dekd::test
