#ifndef DEKD_TEST_HARNESS_H_
#define DEKD_TEST_HARNESS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <span>
#include <string_view>
#include <vector>

namespace dekd::test {

// Test registers one fact. Declare it at namespace scope: `const Test kT("refuses ...", [] { ... });`
struct Test final {
  Test(std::string_view name, std::function<void()> body);
};

// expect notes a failure of the running test, with its place, when `fact` does not hold; the test goes on.
void expect(bool fact, std::source_location place = std::source_location::current());

// skip says that the running test cannot be run here.
void skip(std::string_view reason);

// How a child process ended: exit code, or minus the signal.
using Ending = int;

// in_child runs `body` in a forked process; its result is the exit code. Failed expectations are lost: return them.
Ending in_child(const std::function<int()>& body);

// 0, 1, 2 ... as bytes, beginning at `first`.
std::vector<uint8_t> counting(size_t length, uint8_t first = 0);

// Whether all of `bytes` are zero.
bool all_zero(std::span<const uint8_t> bytes);

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

}  // namespace dekd::test

#endif  // DEKD_TEST_HARNESS_H_
