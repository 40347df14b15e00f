#include "message.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>
#include <new>

#include "bytes.h"
#include "data_key.h"
#include "hmac.h"
#include "key_wrap.h"
#include "random.h"
#include "secret.h"

namespace dekd {
namespace {

using Phase = MessageState::Phase;
using Nonce = std::array<uint8_t, kGcmNonceLength>;

constexpr std::string_view kDeriveKey = "DERIVEKEY";
constexpr std::string_view kCommitKey = "COMMITKEY";
constexpr std::string_view kFrameText = "AWSKMSEncryptionClient Frame";
constexpr std::string_view kFinalFrameText = "AWSKMSEncryptionClient Final Frame";
constexpr std::string_view kSingleBlockText = "AWSKMSEncryptionClient Single Block";

// What the final frame begins with, so that no other frame has this number.
constexpr uint32_t kFinalMark = 0xffffffff;
constexpr size_t kSequenceLength = 4;
constexpr size_t kLengthLength = 4;
constexpr size_t kSingleLengthLength = 8;
// Bytes of a final frame and of a body that is not framed before the ciphertext.
constexpr size_t kFinalHead = 2 * kSequenceLength + kGcmNonceLength + kLengthLength;
constexpr size_t kSingleHead = kGcmNonceLength + kSingleLengthLength;

// The nonce that is written: 0 for the header, the sequence number for a frame.
Nonce nonce_of(uint32_t sequence) {
  Nonce nonce{};
  put_big_endian(sequence, kSequenceLength, nonce.data() + nonce.size() - kSequenceLength);
  return nonce;
}

// The additional data of one frame: message id, text, sequence number, bytes of plaintext.
class BodyAad final {
 public:
  BodyAad(const MessageState& message, std::string_view text, uint32_t sequence, uint64_t length) {
    std::memcpy(bytes_, message.id.data(), kMessageIdLength);
    std::memcpy(bytes_ + kMessageIdLength, text.data(), text.size());
    put_big_endian(sequence, kSequenceLength, bytes_ + kMessageIdLength + text.size());
    put_big_endian(length, 8, bytes_ + kMessageIdLength + text.size() + kSequenceLength);
    size_ = kMessageIdLength + text.size() + kSequenceLength + 8;
  }

  std::span<const uint8_t> bytes() const { return {bytes_, size_}; }

 private:
  uint8_t bytes_[kMessageIdLength + kSingleBlockText.size() + kSequenceLength + 8];
  size_t size_;
};

// Turn is a call's right to work on a message in the phase that it needs.
class Turn final {
 public:
  Turn(KeyTable& table, KeyHandle message, Phase phase) {
    if (!table.lease(message, lease_)) {
      status_ = Status::kStaleKey;
    } else if (lease_.use() != kBodyUse) {
      status_ = Status::kWrongUse;
    } else if (state().busy.exchange(true, std::memory_order_acquire)) {
      status_ = Status::kInvalidArgument;
    } else {
      held_ = true;
      status_ = state().phase == phase ? Status::kOk : Status::kInvalidArgument;
    }
  }
  ~Turn() {
    if (held_) {
      state().busy.store(false, std::memory_order_release);
    }
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  Status status() const { return status_; }
  MessageState& state() const { return lease_.message(); }
  std::span<const uint8_t, kKeyLength> key() const { return lease_.key(); }

  // A message that failed has no next frame.
  Status end(Status status) const {
    state().phase = Phase::kEnded;
    return status;
  }

 private:
  KeyTable::Lease lease_;
  Status status_;
  bool held_ = false;
};

Status derive_commitment(std::span<const uint8_t, kKeyLength> data_key, std::span<const uint8_t> id,
                         std::span<uint8_t, kCommitmentLength> out) {
  return hkdf_sha_512(data_key, id, bytes_of(kCommitKey), out);
}

// Algorithm Suites Reference, "Key derivation": the label is the suite id and then a text.
Status derive_body_key(std::span<const uint8_t, kKeyLength> data_key, MessageSuite suite, std::span<const uint8_t> id,
                       std::span<uint8_t, kKeyLength> out) {
  std::array<uint8_t, 2 + kDeriveKey.size()> label;
  put_big_endian(static_cast<uint16_t>(suite), 2, label.data());
  std::memcpy(label.data() + 2, kDeriveKey.data(), kDeriveKey.size());
  return hkdf_sha_512(data_key, id, label, out);
}

Result<KeyHandle> publish(KeyTable::Reservation& reservation, std::span<const uint8_t, kMessageIdLength> id,
                          uint32_t frame_length, Phase phase) {
  MessageState& state = reservation.message();
  std::memcpy(state.id.data(), id.data(), id.size());
  state.frame_length = frame_length;
  state.next_sequence = 1;
  state.phase = phase;
  state.busy.store(false, std::memory_order_relaxed);
  return finish_key(reservation, kBodyUse);
}

// Joined is two runs of bytes in one; false when there is no memory for that.
class Joined final {
 public:
  Joined(std::span<const uint8_t> a, std::span<const uint8_t> b)
      : size_(a.size() + b.size()), bytes_(new (std::nothrow) uint8_t[size_]) {
    if (bytes_ == nullptr) {
      errno = ENOMEM;
      return;
    }
    std::copy(a.begin(), a.end(), bytes_.get());
    std::copy(b.begin(), b.end(), bytes_.get() + a.size());
  }

  explicit operator bool() const { return bytes_ != nullptr; }
  std::span<const uint8_t> bytes() const { return {bytes_.get(), size_}; }

 private:
  size_t size_;
  std::unique_ptr<uint8_t[]> bytes_;
};

// One frame as it lies in a body.
struct Frame final {
  std::string_view text;
  uint32_t sequence = 0;
  const uint8_t* nonce = nullptr;
  std::span<const uint8_t> ciphertext;
  const uint8_t* tag = nullptr;
  size_t length = 0;
  bool final = false;
};

enum class Found { kFrame, kIncomplete, kRefused };

// Reads the frame at the start of `body`; what can be refused is refused before the frame is whole.
Found find_frame(const MessageState& message, std::span<const uint8_t> body, Frame& frame) {
  const uint8_t* const at = body.data();
  size_t head = kSequenceLength + kGcmNonceLength;
  uint64_t plain = message.frame_length;
  frame.sequence = message.next_sequence;
  if (message.frame_length == 0) {
    if (body.size() < kSingleHead) {
      return Found::kIncomplete;
    }
    head = kSingleHead;
    plain = get_big_endian(at + kGcmNonceLength, kSingleLengthLength);
    if (plain > kMaxMessageLength) {
      return Found::kRefused;
    }
    frame.text = kSingleBlockText;
    frame.nonce = at;
    frame.final = true;
  } else {
    if (body.size() < kSequenceLength) {
      return Found::kIncomplete;
    }
    const uint32_t first = static_cast<uint32_t>(get_big_endian(at, kSequenceLength));
    frame.final = first == kFinalMark;
    if (frame.final) {
      if (body.size() < kFinalHead) {
        return Found::kIncomplete;
      }
      head = kFinalHead;
      plain = get_big_endian(at + kFinalHead - kLengthLength, kLengthLength);
      if (get_big_endian(at + kSequenceLength, kSequenceLength) != message.next_sequence ||
          plain > message.frame_length) {
        return Found::kRefused;
      }
      frame.text = kFinalFrameText;
      frame.nonce = at + 2 * kSequenceLength;
    } else {
      if (first != message.next_sequence) {
        return Found::kRefused;
      }
      frame.text = kFrameText;
      frame.nonce = at + kSequenceLength;
    }
  }
  frame.length = head + static_cast<size_t>(plain) + kTagLength;
  if (body.size() < frame.length) {
    return Found::kIncomplete;
  }
  frame.ciphertext = body.subspan(head, static_cast<size_t>(plain));
  frame.tag = at + head + plain;
  return Found::kFrame;
}

}  // namespace

Result<KeyHandle> begin_message(KeyTable& table, KeyHandle data_key, uint32_t frame_length, uint32_t owner,
                                std::span<uint8_t, kMessageIdLength> id,
                                std::span<uint8_t, kCommitmentLength> commitment) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  KeyTable::Reservation reservation;
  Status status = frame_length == 0 ? Status::kInvalidArgument : table.lend(data_key, kDataKeyUse, lease);
  if (status == Status::kOk) {
    status = table.reserve(kBodyUse, owner, reservation);
  }
  if (status == Status::kOk) {
    status = draw_nonce(id);
  }
  if (status == Status::kOk) {
    status = derive_commitment(lease.key(), id, commitment);
  }
  if (status == Status::kOk) {
    status = derive_body_key(lease.key(), MessageSuite::kCommitted, id, reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return publish(reservation, id, frame_length, Phase::kSealHeader);
}

Result<KeyHandle> resume_message(KeyTable& table, KeyHandle data_key, MessageSuite suite,
                                 std::span<const uint8_t, kMessageIdLength> id, uint32_t frame_length,
                                 std::span<const uint8_t, kCommitmentLength> commitment, uint32_t owner) {
  const StackScrub scrub;
  KeyTable::Lease lease;
  KeyTable::Reservation reservation;
  Status status = table.lend(data_key, kDataKeyUse, lease);
  std::array<uint8_t, kCommitmentLength> expected;
  if (status == Status::kOk) {
    status = derive_commitment(lease.key(), id, expected);
  }
  if (status == Status::kOk && CRYPTO_memcmp(expected.data(), commitment.data(), expected.size()) != 0) {
    status = Status::kAuthenticationFailed;
  }
  if (status == Status::kOk) {
    status = table.reserve(kBodyUse, owner, reservation);
  }
  if (status == Status::kOk) {
    status = derive_body_key(lease.key(), suite, id, reservation.slot().key);
  }
  if (status != Status::kOk) {
    return status;
  }
  return publish(reservation, id, frame_length, Phase::kOpenHeader);
}

Status seal_header(KeyTable& table, KeyHandle message, std::span<const uint8_t> header,
                   std::span<const uint8_t> required, std::span<uint8_t, kTagLength> tag) {
  const StackScrub scrub;
  const Turn turn(table, message, Phase::kSealHeader);
  if (turn.status() != Status::kOk) {
    return turn.status();
  }
  turn.state().phase = Phase::kEnded;
  Gcm gcm(Direction::kSeal);
  Status status = gcm.start(turn.key(), nonce_of(0));
  if (status == Status::kOk) {
    uint8_t nothing = 0;
    const Joined aad(header, required);
    status = aad ? gcm.seal(aad.bytes(), {}, &nothing, tag) : Status::kSystemFailed;
  }
  if (status == Status::kOk) {
    turn.state().phase = Phase::kSealFrames;
  }
  return status;
}

Status verify_header(KeyTable& table, KeyHandle message, std::span<const uint8_t> header,
                     std::span<const uint8_t> required, std::span<const uint8_t, kTagLength> tag) {
  const StackScrub scrub;
  const Turn turn(table, message, Phase::kOpenHeader);
  if (turn.status() != Status::kOk) {
    return turn.status();
  }
  turn.state().phase = Phase::kEnded;
  Gcm gcm(Direction::kOpen);
  Status status = gcm.start(turn.key(), nonce_of(0));
  if (status == Status::kOk) {
    uint8_t nothing = 0;
    const Joined aad(header, required);
    status = aad ? gcm.open(aad.bytes(), {}, tag, &nothing) : Status::kSystemFailed;
  }
  if (status == Status::kOk) {
    turn.state().phase = Phase::kOpenFrames;
  }
  return status;
}

size_t sealed_length(size_t length, uint32_t frame_length, bool final) {
  if (frame_length == 0 || length > kMaxMessageLength) {
    return 0;
  }
  if (!final) {
    return length % frame_length == 0 ? length + length / frame_length * kFrameOverhead : 0;
  }
  const size_t regular = length == 0 ? 0 : (length - 1) / frame_length;
  return length + regular * kFrameOverhead + kFinalFrameOverhead;
}

Status seal_frames(KeyTable& table, KeyHandle message, std::span<const uint8_t> plaintext, bool final,
                   std::span<uint8_t> out) {
  const StackScrub scrub;
  const Turn turn(table, message, Phase::kSealFrames);
  if (turn.status() != Status::kOk) {
    return turn.status();
  }
  MessageState& state = turn.state();
  const size_t room = sealed_length(plaintext.size(), state.frame_length, final);
  if (out.size() != room || (room == 0 && !plaintext.empty()) || overlap(plaintext, out)) {
    return Status::kInvalidArgument;
  }
  const size_t last = !final || plaintext.empty() ? 0 : (plaintext.size() - 1) % state.frame_length + 1;
  const size_t regular = (plaintext.size() - last) / state.frame_length;
  // The final frame has a number as well, and the mark is none.
  if (regular + (final ? 1 : 0) > kFinalMark - uint64_t{state.next_sequence}) {
    return Status::kInvalidArgument;
  }
  Gcm gcm(Direction::kSeal);
  Status status = gcm.start(turn.key(), nonce_of(state.next_sequence));
  const uint8_t* from = plaintext.data();
  uint8_t* to = out.data();
  for (size_t i = 0; status == Status::kOk && i < regular + (final ? 1 : 0); ++i) {
    const bool is_final = i == regular;
    const size_t length = is_final ? last : state.frame_length;
    const uint32_t sequence = state.next_sequence++;
    const Nonce nonce = nonce_of(sequence);
    if (is_final) {
      put_big_endian(kFinalMark, kSequenceLength, to);
      to += kSequenceLength;
    }
    put_big_endian(sequence, kSequenceLength, to);
    to += kSequenceLength;
    std::memcpy(to, nonce.data(), nonce.size());
    to += nonce.size();
    if (is_final) {
      put_big_endian(length, kLengthLength, to);
      to += kLengthLength;
    }
    const BodyAad aad(state, is_final ? kFinalFrameText : kFrameText, sequence, length);
    status = gcm.next_nonce(nonce);
    if (status == Status::kOk) {
      status = gcm.seal(aad.bytes(), {from, length}, to, std::span<uint8_t, kTagLength>(to + length, kTagLength));
    }
    from += length;
    to += length + kTagLength;
  }
  if (status != Status::kOk) {
    wipe(out);
    return turn.end(status);
  }
  return final ? turn.end(status) : status;
}

Status open_frames(KeyTable& table, KeyHandle message, std::span<const uint8_t> body, std::span<uint8_t> out,
                   OpenedFrames& opened) {
  const StackScrub scrub;
  opened = {};
  const Turn turn(table, message, Phase::kOpenFrames);
  if (turn.status() != Status::kOk) {
    return turn.status();
  }
  if (out.size() < body.size() || overlap(body, out)) {
    return Status::kInvalidArgument;
  }
  MessageState& state = turn.state();
  Gcm gcm(Direction::kOpen);
  Status status = gcm.start(turn.key(), nonce_of(0));
  while (status == Status::kOk && !opened.final) {
    Frame frame;
    const Found found = find_frame(state, body.subspan(opened.consumed), frame);
    if (found == Found::kIncomplete) {
      return status;
    }
    if (found == Found::kRefused) {
      status = Status::kAuthenticationFailed;
      break;
    }
    const BodyAad aad(state, frame.text, frame.sequence, frame.ciphertext.size());
    status = gcm.next_nonce(std::span<const uint8_t, kGcmNonceLength>(frame.nonce, kGcmNonceLength));
    if (status == Status::kOk) {
      status = gcm.open(aad.bytes(), frame.ciphertext, std::span<const uint8_t, kTagLength>(frame.tag, kTagLength),
                        out.data() + opened.produced);
    }
    opened.consumed += frame.length;
    opened.produced += frame.ciphertext.size();
    opened.final = frame.final;
    ++state.next_sequence;
  }
  if (status != Status::kOk) {
    wipe(out);
    opened = {};
  }
  return turn.end(status);
}

Status seek_frame(KeyTable& table, KeyHandle message, uint32_t sequence) {
  const Turn turn(table, message, Phase::kOpenFrames);
  if (turn.status() != Status::kOk) {
    return turn.status();
  }
  if (turn.state().frame_length == 0 || sequence == 0 || sequence == kFinalMark) {
    return Status::kInvalidArgument;
  }
  turn.state().next_sequence = sequence;
  return Status::kOk;
}

}  // namespace dekd
