#ifndef DEKD_CORE_STATUS_H_
#define DEKD_CORE_STATUS_H_

#include <cstdint>

namespace dekd {

// Status is what every fallible function of the core returns. Numbers are the contract with `src/crypto/native.ts`,
// which turns them into errors and composes the messages; no text is made in C++.
enum class [[nodiscard]] Status : int32_t {
  kOk = 0,
  // The ciphertext, tag, context or key does not fit: one answer for all of them.
  kAuthenticationFailed = 1,
  // The handle never named a key, or its key is gone.
  kStaleKey = 2,
  // The key exists and has another purpose or algorithm.
  kWrongUse = 3,
  kTableFull = 4,
  // A length, range or overlap that the caller must not pass.
  kInvalidArgument = 5,
  // OpenSSL refused a call that cannot fail for a reason in the input.
  kCryptoFailed = 6,
  kRandomFailed = 7,
  // A read, write or other system call failed; errno is left as it was set.
  kSystemFailed = 8,
  // The bytes read are not one base64 line of 32 bytes.
  kMalformedKey = 9,
  // The locked memory reached is below the level that was asked for.
  kBelowMinimum = 10,
  // The key table was not set up in this process.
  kNotReady = 11,
  // A read or write of the key pipe failed, or would have had to wait; errno is left as it was set.
  kPipeFailed = 12,
  // The other end of the key pipe was closed before a whole frame.
  kPipeEnded = 13,
  // A frame of another call, or of a length that the call does not take.
  kUnexpectedFrame = 14,
};

// Result holds a value exactly when its status is kOk. For small, trivially copied values (handles, descriptors).
template <typename T>
class [[nodiscard]] Result final {
 public:
  // Implicit on purpose: `return Status::kX;` and `return value;` read as what they are.
  Result(Status status) : status_(status) {}  // NOLINT(google-explicit-constructor)
  Result(T value) : status_(Status::kOk), value_(value) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return status_ == Status::kOk; }
  Status status() const { return status_; }
  // The value; meaningful only when ok().
  const T& value() const { return value_; }

 private:
  Status status_;
  T value_{};
};

}  // namespace dekd

#endif  // DEKD_CORE_STATUS_H_
