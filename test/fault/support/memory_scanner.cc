// Looks for byte patterns in the memory of another process, again and again.
//
//   memory_scanner PID
//
// Standard input: one line `label hex` a pattern, its bytes XORed with 0xa5 so that the patterns are never in this
// process either, then an empty line, then one line a scan. Standard output: one JSON object a scan. Reads every
// page in use of the readable and writable mappings through /proc/PID/mem; what the kernel does not give (secret memory:
// EIO) is counted as refused. Needs root.

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr uint8_t kMask = 0xa5;
constexpr size_t kChunk = size_t{1} << 20;

struct Pattern final {
  std::string label;
  std::vector<uint8_t> masked;
};

// Which pairs of first bytes begin a pattern, in little space: nearly every position is done with after one look.
std::array<bool, 1 << 16> is_head{};
std::vector<std::vector<uint16_t>> by_head(1 << 16);
std::vector<Pattern> patterns;
size_t longest = 0;

bool matches(const Pattern& pattern, const uint8_t* at) {
  for (size_t i = 0; i < pattern.masked.size(); ++i) {
    if ((at[i] ^ kMask) != pattern.masked[i]) {
      return false;
    }
  }
  return true;
}

void read_patterns() {
  std::string line;
  while (std::getline(std::cin, line) && !line.empty()) {
    const size_t space = line.rfind(' ');
    Pattern pattern;
    pattern.label = line.substr(0, space);
    for (size_t i = space + 1; i + 1 < line.size(); i += 2) {
      pattern.masked.push_back(static_cast<uint8_t>(std::stoi(line.substr(i, 2), nullptr, 16)));
    }
    longest = std::max(longest, pattern.masked.size());
    const size_t head = (pattern.masked[0] ^ kMask) << 8 | (pattern.masked[1] ^ kMask);
    is_head[head] = true;
    by_head[head].push_back(static_cast<uint16_t>(patterns.size()));
    patterns.push_back(pattern);
  }
}

struct Region final {
  uint64_t begin;
  uint64_t end;
};

std::vector<Region> regions_of(const std::string& pid) {
  std::vector<Region> regions;
  std::ifstream maps("/proc/" + pid + "/maps");
  std::string line;
  while (std::getline(maps, line)) {
    Region region{};
    std::array<char, 5> mode{};
    if (std::sscanf(line.c_str(), "%lx-%lx %4s", &region.begin, &region.end, mode.data()) == 3 && mode[0] == 'r' &&
        mode[1] == 'w') {
      regions.push_back(region);
    }
  }
  return regions;
}

// Runs of pages of a region that are in memory or in swap; what was never touched holds nothing. Everything, where the
// kernel does not say.
std::vector<Region> populated(int pagemap, Region region) {
  constexpr uint64_t kPage = 4096;
  constexpr uint64_t kPresentOrSwapped = uint64_t{3} << 62;
  std::vector<uint64_t> entries((region.end - region.begin) / kPage);
  const size_t size = entries.size() * sizeof(uint64_t);
  const auto offset = static_cast<off_t>(region.begin / kPage * sizeof(uint64_t));
  if (pagemap < 0 || pread(pagemap, entries.data(), size, offset) != static_cast<ssize_t>(size)) {
    return {region};
  }
  std::vector<Region> runs;
  for (size_t i = 0; i < entries.size(); ++i) {
    if ((entries[i] & kPresentOrSwapped) == 0) {
      continue;
    }
    const uint64_t page = region.begin + i * kPage;
    if (!runs.empty() && runs.back().end == page) {
      runs.back().end += kPage;
    } else {
      runs.push_back({page, page + kPage});
    }
  }
  return runs;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    return 2;
  }
  const std::string pid = argv[1];
  read_patterns();
  const int memory = open(("/proc/" + pid + "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory < 0) {
    std::fprintf(stderr, "cannot open the memory of %s: %s\n", pid.c_str(), std::strerror(errno));
    return 1;
  }
  const int pagemap = open(("/proc/" + pid + "/pagemap").c_str(), O_RDONLY | O_CLOEXEC);
  std::vector<uint8_t> chunk(kChunk);
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto begun = std::chrono::steady_clock::now();
    std::map<std::string, uint64_t> hits;
    uint64_t bytes = 0;
    uint64_t refused = 0;
    std::vector<Region> regions;
    for (const Region region : regions_of(pid)) {
      for (const Region run : populated(pagemap, region)) {
        regions.push_back(run);
      }
    }
    for (const Region region : regions) {
      uint64_t at = region.begin;
      while (at < region.end) {
        const size_t want = std::min<uint64_t>(kChunk, region.end - at);
        const ssize_t got = pread(memory, chunk.data(), want, static_cast<off_t>(at));
        if (got <= 0) {
          refused += 4096;
          at = (at / 4096 + 1) * 4096;
          continue;
        }
        const auto size = static_cast<size_t>(got);
        bytes += size;
        // Chunks overlap, so that a pattern at a border is whole in the next one; a match that ends inside the overlap
        // was whole in the last one already and belongs to the chunk in which it begins.
        const bool last = at + size >= region.end;
        const size_t stop = last || size <= longest ? size : size - longest;
        for (size_t i = 0; i + 1 < size && i < stop; ++i) {
          const size_t head = static_cast<size_t>(chunk[i]) << 8 | chunk[i + 1];
          if (!is_head[head]) {
            continue;
          }
          for (const uint16_t index : by_head[head]) {
            const Pattern& pattern = patterns[index];
            if (i + pattern.masked.size() <= size && matches(pattern, chunk.data() + i)) {
              ++hits[pattern.label];
            }
          }
        }
        at += stop;
      }
    }
    const auto ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count();
    std::printf("{\"regions\":%zu,\"bytes\":%lu,\"refused\":%lu,\"ms\":%.1f,\"hits\":{", regions.size(), bytes, refused,
                ms);
    const char* comma = "";
    for (const auto& [label, count] : hits) {
      std::printf("%s\"%s\":%lu", comma, label.c_str(), count);
      comma = ",";
    }
    std::printf("}}\n");
    std::fflush(stdout);
  }
  return 0;
}
