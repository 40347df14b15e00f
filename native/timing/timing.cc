#include "timing.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <ctime>
#include <vector>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace dekd::timing {
namespace {

constexpr size_t kPercentiles = 100;
constexpr size_t kBatch = 4096;

// Cycles where the processor counts them, else nanoseconds.
uint64_t now() {
#if defined(__x86_64__)
  _mm_lfence();
  const uint64_t cycles = __rdtsc();
  _mm_lfence();
  return cycles;
#else
  timespec time{};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000U + static_cast<uint64_t>(time.tv_nsec);
#endif
}

// Welch's t of two classes whose values come one by one (Welford's mean and variance).
class Welch final {
 public:
  void add(bool right, double value) {
    Side& side = sides_[right ? 1 : 0];
    ++side.count;
    const double delta = value - side.mean;
    side.mean += delta / side.count;
    side.squares += delta * (value - side.mean);
  }

  // 0 while there are too few to say anything: dudect says nothing below 10,000.
  double t() const {
    const Side& a = sides_[0];
    const Side& b = sides_[1];
    if (a.count < 5'000 || b.count < 5'000) {
      return 0;
    }
    const double spread = a.squares / (a.count - 1) / a.count + b.squares / (b.count - 1) / b.count;
    return spread == 0 ? 0 : (a.mean - b.mean) / std::sqrt(spread);
  }

 private:
  struct Side final {
    double count = 0;
    double mean = 0;
    double squares = 0;
  };
  std::array<Side, 2> sides_;
};

// xorshift64*: which class comes next has to be unforeseeable by the processor, not by an attacker.
class Coin final {
 public:
  explicit Coin(uint64_t seed) : state_(seed | 1) {}
  bool toss() {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return ((state_ * 0x2545f4914f6cdd1dU) >> 63) != 0;
  }

 private:
  uint64_t state_;
};

}  // namespace

Measured measure(const Subject& subject, size_t samples, uint64_t seed) {
  Coin coin(seed);
  std::array<double, kPercentiles> limits{};
  std::array<Welch, kPercentiles + 1> tests;
  std::vector<std::pair<bool, double>> warm;
  const size_t finding = samples / 10;
  for (size_t i = 0; i < samples + finding; ++i) {
    const bool right = coin.toss();
    subject.prepare(right);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    const uint64_t before = now();
    subject.call();
    const auto taken = static_cast<double>(now() - before);
    if (i < finding) {
      warm.emplace_back(right, taken);
      if (i + 1 == finding) {
        std::vector<double> sorted;
        for (const auto& [_, value] : warm) {
          sorted.push_back(value);
        }
        std::sort(sorted.begin(), sorted.end());
        for (size_t p = 0; p < kPercentiles; ++p) {
          // dudect's: closer together where the short times are.
          const double share = 1 - std::pow(0.5, 10.0 * static_cast<double>(p + 1) / kPercentiles);
          limits[p] = sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
        }
      }
      continue;
    }
    tests[kPercentiles].add(right, taken);
    for (size_t p = 0; p < kPercentiles; ++p) {
      if (taken <= limits[p]) {
        tests[p].add(right, taken);
      }
    }
  }
  Measured measured{samples, 0};
  for (const Welch& test : tests) {
    measured.max_t = std::max(measured.max_t, std::fabs(test.t()));
  }
  return measured;
}

}  // namespace dekd::timing
