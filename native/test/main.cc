#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>

#include "harness.h"

namespace dekd::test {
namespace {

struct Registered final {
  std::string name;
  std::function<void()> body;
};

// A function's static, because tests register before main and in no order.
std::vector<Registered>& registered() {
  static std::vector<Registered> tests;
  return tests;
}

int failures_of_this_test = 0;
bool skipped = false;

}  // namespace

Test::Test(std::string_view name, std::function<void()> body) {
  registered().push_back({std::string(name), std::move(body)});
}

void expect(bool fact, std::source_location place) {
  if (!fact) {
    ++failures_of_this_test;
    std::printf("    %s:%u\n", place.file_name(), place.line());
  }
}

void skip(std::string_view reason) {
  skipped = true;
  std::printf("    skipped: %.*s\n", static_cast<int>(reason.size()), reason.data());
}

Ending in_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    // Sanitizers turn a fault into an exit of their own; the test wants the signal.
    std::signal(SIGSEGV, SIG_DFL);
    std::signal(SIGBUS, SIG_DFL);
    _exit(body());
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    return -1000;
  }
  return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

std::vector<uint8_t> counting(size_t length, uint8_t first) {
  std::vector<uint8_t> bytes(length);
  for (size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<uint8_t>(first + i);
  }
  return bytes;
}

bool all_zero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

}  // namespace dekd::test

// Arguments are parts of names: only tests whose name contains one of them run.
int main(int count, char** arguments) {
  using namespace dekd::test;
  int passed = 0;
  int failed = 0;
  int left_out = 0;
  for (const Registered& test : registered()) {
    const bool wanted = count == 1 || std::any_of(arguments + 1, arguments + count, [&](const char* part) {
                          return test.name.find(part) != std::string::npos;
                        });
    if (!wanted) {
      continue;
    }
    failures_of_this_test = 0;
    skipped = false;
    test.body();
    if (failures_of_this_test != 0) {
      ++failed;
      std::printf("FAILED %s\n", test.name.c_str());
    } else if (skipped) {
      ++left_out;
    } else {
      ++passed;
    }
  }
  std::printf("%d passed, %d failed, %d skipped\n", passed, failed, left_out);
  return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
