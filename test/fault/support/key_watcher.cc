// Waits until bytes of another process are zero, and says when.
//
//   key_watcher PID
//
// Standard input: the bytes to look for, in hexadecimal and XORed with 0xa5. Finds them in the readable and writable mappings
// that /proc/PID/mem gives, prints `found N`, and then `zero NANOSECONDS` (CLOCK_MONOTONIC) once every place is zero, or
// `gone NANOSECONDS` when the process is gone first. Needs root.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

namespace {

constexpr uint8_t kMask = 0xa5;

uint64_t now() {
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

std::vector<uint64_t> places_of(const std::string& pid, int memory, const std::vector<uint8_t>& masked) {
  std::vector<uint64_t> places;
  std::ifstream maps("/proc/" + pid + "/maps");
  std::string line;
  std::vector<uint8_t> bytes;
  while (std::getline(maps, line)) {
    uint64_t begin = 0;
    uint64_t end = 0;
    std::array<char, 5> mode{};
    // Mappings over 256 MiB are reservations of V8.
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &begin, &end, mode.data()) != 3 || mode[0] != 'r' || mode[1] != 'w' ||
        end - begin > (size_t{256} << 20)) {
      continue;
    }
    bytes.resize(end - begin);
    const ssize_t got = pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(begin));
    for (ssize_t at = 0; at + static_cast<ssize_t>(masked.size()) <= got; ++at) {
      size_t same = 0;
      while (same < masked.size() && (bytes[static_cast<size_t>(at) + same] ^ kMask) == masked[same]) {
        ++same;
      }
      if (same == masked.size()) {
        places.push_back(begin + static_cast<uint64_t>(at));
      }
    }
  }
  return places;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) {
    return 2;
  }
  const std::string pid = arguments[1];
  std::string hex;
  std::getline(std::cin, hex);
  std::vector<uint8_t> masked;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    masked.push_back(static_cast<uint8_t>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  const int memory = open(("/proc/" + pid + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  const std::vector<uint64_t> places = places_of(pid, memory, masked);
  std::printf("found %zu\n", places.size());
  std::fflush(stdout);
  std::vector<uint8_t> bytes(masked.size());
  for (;;) {
    bool zero = true;
    for (const uint64_t place : places) {
      if (pread(memory, bytes.data(), bytes.size(), static_cast<off_t>(place)) != static_cast<ssize_t>(bytes.size())) {
        std::printf("gone %lu\n", now());
        return 0;
      }
      for (const uint8_t byte : bytes) {
        zero = zero && byte == 0;
      }
    }
    if (zero) {
      std::printf("zero %lu\n", now());
      return 0;
    }
    usleep(50);
  }
}
