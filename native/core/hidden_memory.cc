#include "hidden_memory.h"

#include <fcntl.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>

#include "owned_fd.h"

namespace dekd {
namespace {

bool is_read_by_file(const uint8_t* at) {
  const OwnedFd memory(open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  uint8_t byte = 0;
  return memory.get() >= 0 &&
         pread(memory.get(), &byte, 1, static_cast<off_t>(reinterpret_cast<uintptr_t>(at))) == 1;
}

bool is_read_by_call(const uint8_t* at) {
  uint8_t byte = 0;
  const iovec to{&byte, 1};
  const iovec from{const_cast<uint8_t*>(at), 1};
  return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

}  // namespace

bool is_hidden(std::span<const uint8_t> pages) {
  return !is_read_by_file(pages.data()) && !is_read_by_call(pages.data());
}

bool keeps_direct_map(std::string_view machine, std::string_view command_line) {
  if (machine != "aarch64") {
    return false;
  }
  // The last one counts. Without any it is full, unless the kernel was configured otherwise.
  constexpr std::string_view kOption = "rodata=";
  for (size_t at = command_line.rfind(kOption); at != std::string_view::npos;
       at = at == 0 ? std::string_view::npos : command_line.rfind(kOption, at - 1)) {
    // A word of its own, and not the end of another.
    if (at == 0 || command_line[at - 1] == ' ') {
      const std::string_view rest = command_line.substr(at + kOption.size());
      return rest.substr(0, rest.find_first_of(" \n")) != "full";
    }
  }
  return false;
}

bool keeps_direct_map() {
  utsname system{};
  std::array<char, 4096> text{};
  const OwnedFd file(open("/proc/cmdline", O_RDONLY | O_CLOEXEC));
  const ssize_t length = file.get() < 0 ? 0 : read(file.get(), text.data(), text.size());
  return uname(&system) == 0 &&
         keeps_direct_map(system.machine, {text.data(), static_cast<size_t>(length < 0 ? 0 : length)});
}

}  // namespace dekd
