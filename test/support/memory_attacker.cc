// Tries on another process what a passive reader of its memory has, and says how each attempt ended.
//
//   memory_attacker PID [ADDRESS]
//   memory_attacker hold
//
// The second is a victim for the first: it holds secret memory with its descriptor open, says so, and waits. The first prints
// one JSON object: errno of opening /proc/PID/mem and /proc/PID/environ, of PTRACE_ATTACH and process_vm_readv (of ADDRESS
// in hexadecimal, or of the first mapping), 0 where it was let through; and what pidfd_getfd got of the descriptors 0 to
// 1023: how many, and how many of them are secret memory.

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

int open_and_read(const std::string& path, off_t offset) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return errno;
  }
  char byte = 0;
  const int error = pread(fd, &byte, 1, offset) == 1 ? 0 : errno == 0 ? ENODATA : errno;
  close(fd);
  return error;
}

int attach(pid_t pid) {
  if (ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) != 0) {
    return errno;
  }
  waitpid(pid, nullptr, 0);
  ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  return 0;
}

int read_remote(pid_t pid, uintptr_t address) {
  char byte = 0;
  const iovec to{&byte, 1};
  const iovec from{reinterpret_cast<void*>(address), 1};
  return process_vm_readv(pid, &to, 1, &from, 1, 0) == 1 ? 0 : errno;
}

uintptr_t first_mapping(pid_t pid) {
  FILE* const maps = std::fopen(("/proc/" + std::to_string(pid) + "/maps").c_str(), "re");
  unsigned long address = 0;
  if (maps != nullptr) {
    if (std::fscanf(maps, "%lx-", &address) != 1) {
      address = 0;
    }
    std::fclose(maps);
  }
  return address;
}

bool is_secret(int fd) {
  std::array<char, 256> name{};
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  return readlink(link.c_str(), name.data(), name.size() - 1) > 0 && std::strstr(name.data(), "secretmem") != nullptr;
}

int hold() {
  constexpr long kMemfdSecret = 447;
  const int fd = static_cast<int>(syscall(kMemfdSecret, 0));
  if (fd < 0 || ftruncate(fd, 4096) != 0 || mmap(nullptr, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) {
    return 1;
  }
  std::puts("holding");
  std::fflush(stdout);
  return pause();
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    return 2;
  }
  if (std::strcmp(arguments[1], "hold") == 0) {
    return hold();
  }
  const pid_t pid = std::atoi(arguments[1]);
  const uintptr_t given = count > 2 ? std::strtoul(arguments[2], nullptr, 16) : 0;
  const uintptr_t address = given != 0 ? given : first_mapping(pid);
  const std::string folder = "/proc/" + std::to_string(pid);
  errno = 0;
  const int mem = open_and_read(folder + "/mem", static_cast<off_t>(address));
  errno = 0;
  const int environ_error = open_and_read(folder + "/environ", 0);
  const int vm = read_remote(pid, address);
  int got = 0;
  int secret = 0;
  int last = 0;
  const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  for (int fd = 0; fd < 1024 && pidfd >= 0; ++fd) {
    const int copy = static_cast<int>(syscall(SYS_pidfd_getfd, pidfd, fd, 0));
    if (copy < 0) {
      last = errno == EBADF ? last : errno;
      continue;
    }
    ++got;
    secret += is_secret(copy) ? 1 : 0;
    close(copy);
  }
  // Last: a process that was attached to has been stopped for a moment.
  const int traced = attach(pid);
  std::printf("{\"mem\":%d,\"environ\":%d,\"ptrace\":%d,\"vm\":%d,\"descriptors\":%d,\"secret\":%d,\"descriptorErrno\":%d}\n",
              mem, environ_error, traced, vm, got, secret, last);
  return 0;
}
