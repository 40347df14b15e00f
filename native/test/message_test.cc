#include "../core/message.h"

#include <array>
#include <atomic>
#include <cstring>
#include <thread>

#include "../core/data_key.h"
#include "../core/given_nonce.h"
#include "../core/key_pipe.h"
#include "../core/key_wrap.h"
#include "../core/secret.h"
#include "harness.h"

namespace dekd::test {
namespace {

using Bytes = std::vector<uint8_t>;
using Id = std::array<uint8_t, kMessageIdLength>;
using Commitment = std::array<uint8_t, kCommitmentLength>;
using Tag = std::array<uint8_t, kTagLength>;

constexpr uint32_t kFrameLength = 64;

void append(Bytes& bytes, const void* more, size_t length) {
  const size_t before = bytes.size();
  bytes.resize(before + length);
  std::memcpy(bytes.data() + before, more, length);
}

// A table with a message key, a data key, and a header of some bytes.
struct Fixture final {
  KeyTable table;
  KeyHandle message_key = 0;
  KeyHandle data_key = 0;
  Bytes header = counting(200, 7);
  Bytes required = counting(20, 99);
  Id id{};
  Commitment commitment{};

  Fixture() {
    expect(table.open(LockLevel::kHeap) == Status::kOk);
    message_key = make(kMessageKeyUse);
    data_key = make(kDataKeyUse);
  }

  KeyHandle make(KeyUse use) {
    const Result<KeyHandle> made = generate_key(table, use, 0);
    expect(made.ok());
    return made.value();
  }

  KeyHandle begin(uint32_t frame_length = kFrameLength) {
    const Result<KeyHandle> message = begin_message(table, data_key, frame_length, 0, id, commitment);
    expect(message.ok());
    return message.value();
  }

  KeyHandle resume(uint32_t frame_length = kFrameLength) {
    const Result<KeyHandle> message =
        resume_message(table, data_key, MessageSuite::kCommitted, id, frame_length, commitment, 0);
    expect(message.ok());
    return message.value();
  }

  Tag seal_header_of(KeyHandle message) {
    Tag tag;
    expect(seal_header(table, message, header, required, tag) == Status::kOk);
    return tag;
  }

  // Header and body of a message; `tag` as it must be.
  Bytes seal(const Bytes& plaintext, Tag& tag, uint32_t frame_length = kFrameLength) {
    const KeyHandle message = begin(frame_length);
    tag = seal_header_of(message);
    Bytes body(sealed_length(plaintext.size(), frame_length, true));
    expect(seal_frames(table, message, plaintext, true, body) == Status::kOk);
    table.destroy(message);
    return body;
  }

  // A message whose header is verified.
  KeyHandle reopen(const Tag& tag, uint32_t frame_length = kFrameLength) {
    const KeyHandle message = resume(frame_length);
    expect(verify_header(table, message, header, required, tag) == Status::kOk);
    return message;
  }

  Status open(const Tag& tag, const Bytes& body, Bytes& plaintext, OpenedFrames& opened) {
    const KeyHandle message = reopen(tag);
    plaintext.assign(body.size(), 0x55);
    const Status status = open_frames(table, message, body, plaintext, opened);
    if (status == Status::kOk) {
      plaintext.resize(opened.produced);
    }
    table.destroy(message);
    return status;
  }
};

KeyHandle imported(KeyTable& table, Bytes bytes) {
  const Result<KeyHandle> key = import_secret(table, bytes, kDataKeyUse, 0);
  expect(key.ok());
  return key.value();
}

const Test kKnownKeys("keys of a message are those of the AWS Encryption SDK for a data key and an id of zeros", [] {
  KeyTable table;
  expect(table.open(LockLevel::kHeap) == Status::kOk);
  const KeyHandle data_key = imported(table, Bytes(32));
  const Id id{};
  const std::array<uint8_t, 32> body_key = {
      0xa9, 0x29, 0x9d, 0xde, 0x8c, 0x7b, 0xaf, 0xe7, 0x08, 0x78, 0x69, 0x89, 0x86, 0xe8, 0x2e, 0x63,
      0x78, 0xb9, 0x4b, 0xf2, 0xcc, 0x29, 0x55, 0x18, 0x24, 0x68, 0x16, 0x47, 0xba, 0xe1, 0x13, 0xa3};
  Commitment commitment = {0x43, 0x3d, 0x83, 0x7f, 0x59, 0xcb, 0x7e, 0x9b, 0xc6, 0x33, 0x4d,
                           0x15, 0x4a, 0xff, 0x83, 0x11, 0x09, 0xc6, 0x37, 0x2d, 0x98, 0xf8,
                           0xb5, 0xac, 0x85, 0x88, 0xbf, 0xf7, 0xef, 0xab, 0xa6, 0x51};
  const Result<KeyHandle> message =
      resume_message(table, data_key, MessageSuite::kCommitted, id, kFrameLength, commitment, 0);
  expect(message.ok());
  KeyTable::Lease lease;
  expect(table.lease(message.value(), lease));
  expect(std::memcmp(lease.key().data(), body_key.data(), body_key.size()) == 0);
  const Result<KeyHandle> other =
      resume_message(table, data_key, MessageSuite::kSigned, id, kFrameLength, commitment, 0);
  KeyTable::Lease lease_of_other;
  expect(other.ok() && table.lease(other.value(), lease_of_other));
  expect(std::memcmp(lease_of_other.key().data(), body_key.data(), body_key.size()) != 0);
  commitment[31] ^= 1;
  expect(resume_message(table, data_key, MessageSuite::kCommitted, id, kFrameLength, commitment, 0).status() ==
         Status::kAuthenticationFailed);
  expect(table.stats().used == 3);
});

const Test kLayout("frames are laid out as the message format has them, with the sequence number for a nonce", [] {
  Fixture f;
  const Bytes plaintext = counting(kFrameLength + 3, 5);
  const KeyHandle message = f.begin();
  const Tag tag = f.seal_header_of(message);
  Bytes body(sealed_length(plaintext.size(), kFrameLength, true));
  expect(body.size() == kFrameLength + 32 + 3 + 40);
  expect(seal_frames(f.table, message, plaintext, true, body) == Status::kOk);
  KeyTable::Lease lease;
  expect(f.table.lease(message, lease));

  Bytes aad = f.header;
  aad.insert(aad.end(), f.required.begin(), f.required.end());
  const std::array<uint8_t, 12> zero{};
  Tag expected_tag;
  expect(gcm_seal(lease.key(), zero, aad, {}, expected_tag) == Status::kOk);
  expect(tag == expected_tag);

  const auto frame_of = [&](const char* text, uint8_t sequence, size_t from, size_t length) {
    Bytes frame_aad;
    append(frame_aad, f.id.data(), f.id.size());
    append(frame_aad, text, std::strlen(text));
    for (const uint8_t byte : {0, 0, 0, int{sequence}, 0, 0, 0, 0, 0, 0, 0, static_cast<int>(length)}) {
      frame_aad.push_back(byte);
    }
    std::array<uint8_t, 12> nonce{};
    nonce[11] = sequence;
    Bytes sealed(length + kTagLength);
    const std::span<const uint8_t> plain = std::span(plaintext).subspan(from, length);
    expect(gcm_seal(lease.key(), nonce, frame_aad, plain, sealed) == Status::kOk);
    sealed.insert(sealed.begin(), nonce.begin(), nonce.end());
    return sealed;
  };
  Bytes expected = {0, 0, 0, 1};
  const Bytes first = frame_of("AWSKMSEncryptionClient Frame", 1, 0, kFrameLength);
  expected.insert(expected.end(), first.begin(), first.end());
  for (const uint8_t byte : {0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2}) {
    expected.push_back(byte);
  }
  Bytes last = frame_of("AWSKMSEncryptionClient Final Frame", 2, kFrameLength, 3);
  const Bytes length = {0, 0, 0, 3};
  last.insert(last.begin() + 12, length.begin(), length.end());
  expected.insert(expected.end(), last.begin(), last.end());
  expect(body == expected);
});

const Test kRoundTrip("open_frames gives back what seal_frames took, around every edge of a frame", [] {
  Fixture f;
  for (const size_t size : {0, 1, 63, 64, 65, 127, 128, 129, 640, 1000}) {
    const Bytes plaintext = counting(size, 3);
    Tag tag;
    const Bytes body = f.seal(plaintext, tag);
    const size_t frames = size == 0 ? 1 : (size + 63) / 64;
    expect(body.size() == size + 32 * frames + 8);
    Bytes opened_bytes;
    OpenedFrames opened;
    expect(f.open(tag, body, opened_bytes, opened) == Status::kOk);
    expect(opened.final && opened.consumed == body.size() && opened_bytes == plaintext);
  }
});

const Test kPieces("frames can be sealed in several calls and opened in pieces of any size", [] {
  Fixture f;
  const Bytes plaintext = counting(5 * kFrameLength + 9, 1);
  const KeyHandle message = f.begin();
  const Tag tag = f.seal_header_of(message);
  Bytes body;
  size_t from = 0;
  for (const size_t frames : {1, 0, 3}) {
    const std::span<const uint8_t> part = std::span(plaintext).subspan(from, frames * kFrameLength);
    Bytes sealed(sealed_length(part.size(), kFrameLength, false));
    expect(seal_frames(f.table, message, part, false, sealed) == Status::kOk);
    body.insert(body.end(), sealed.begin(), sealed.end());
    from += part.size();
  }
  const std::span<const uint8_t> rest = std::span(plaintext).subspan(from);
  Bytes sealed(sealed_length(rest.size(), kFrameLength, true));
  expect(seal_frames(f.table, message, rest, true, sealed) == Status::kOk);
  body.insert(body.end(), sealed.begin(), sealed.end());
  Bytes nothing(40);
  expect(seal_frames(f.table, message, {}, true, nothing) == Status::kInvalidArgument);

  for (const size_t piece : {1, 7, 95, 96, 97, 200, 1000}) {
    const KeyHandle opening = f.reopen(tag);
    Bytes got;
    Bytes waiting;
    bool ended = false;
    for (size_t at = 0; at < body.size(); at += piece) {
      const size_t take = std::min(piece, body.size() - at);
      waiting.insert(waiting.end(), body.begin() + static_cast<ptrdiff_t>(at),
                     body.begin() + static_cast<ptrdiff_t>(at + take));
      Bytes out(waiting.size());
      OpenedFrames opened;
      expect(!ended && open_frames(f.table, opening, waiting, out, opened) == Status::kOk);
      got.insert(got.end(), out.begin(), out.begin() + static_cast<ptrdiff_t>(opened.produced));
      waiting.erase(waiting.begin(), waiting.begin() + static_cast<ptrdiff_t>(opened.consumed));
      ended = opened.final;
    }
    expect(ended && got == plaintext && waiting.empty());
    f.table.destroy(opening);
  }
});

const Test kEveryBit("open_frames refuses a body with any one bit changed, leaves zeros, and has no next frame", [] {
  Fixture f;
  const Bytes plaintext = counting(kFrameLength + 5, 200);
  Tag tag;
  Bytes body = f.seal(plaintext, tag);
  for (size_t bit = 0; bit < 8 * body.size(); ++bit) {
    body[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    const KeyHandle message = f.reopen(tag);
    Bytes out(body.size(), 0x55);
    OpenedFrames opened;
    const Status status = open_frames(f.table, message, body, out, opened);
    // A changed length can say that more is to come, which only the end of the message shows to be wrong.
    expect(status == Status::kAuthenticationFailed || (status == Status::kOk && !opened.final));
    if (status == Status::kAuthenticationFailed) {
      expect(opened.consumed == 0 && opened.produced == 0);
      expect(all_zero(std::span(out).first(kFrameLength)) || out[0] == 0x55);
      expect(open_frames(f.table, message, body, out, opened) == Status::kInvalidArgument);
    }
    body[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    f.table.destroy(message);
  }
});

const Test kOrder("open_frames refuses frames left out, repeated, exchanged, of another message, or the end moved up", [] {
  Fixture f;
  const Bytes plaintext = counting(3 * kFrameLength + 5, 1);
  Tag tag;
  const Bytes body = f.seal(plaintext, tag);
  constexpr size_t kSealedFrame = kFrameLength + kFrameOverhead;
  const auto frame = [&](size_t index) {
    const auto at = body.begin() + static_cast<ptrdiff_t>(index * kSealedFrame);
    return index == 3 ? Bytes(at, body.end()) : Bytes(at, at + kSealedFrame);
  };
  const auto refused = [&](std::initializer_list<size_t> order) {
    Bytes changed;
    for (const size_t index : order) {
      const Bytes part = frame(index);
      changed.insert(changed.end(), part.begin(), part.end());
    }
    Bytes out;
    OpenedFrames opened;
    return f.open(tag, changed, out, opened) == Status::kAuthenticationFailed;
  };
  expect(refused({1, 2, 3}) && refused({0, 2, 3}) && refused({0, 1, 3}) && refused({0, 0, 1, 2, 3}));
  expect(refused({0, 2, 1, 3}) && refused({3}) && refused({0, 3}));

  Bytes out;
  OpenedFrames opened;
  expect(f.open(tag, Bytes(body.begin(), body.end() - 1), out, opened) == Status::kOk);
  expect(!opened.final && opened.produced == 3 * kFrameLength);

  const Id id = f.id;
  const Commitment commitment = f.commitment;
  Tag other_tag;
  const Bytes other = f.seal(plaintext, other_tag);
  f.id = id;
  f.commitment = commitment;
  Bytes spliced = frame(0);
  spliced.insert(spliced.end(), other.begin() + static_cast<ptrdiff_t>(kSealedFrame), other.end());
  expect(f.open(tag, spliced, out, opened) == Status::kAuthenticationFailed);
  const KeyHandle message = f.resume();
  expect(verify_header(f.table, message, f.header, f.required, other_tag) == Status::kAuthenticationFailed);
  expect(verify_header(f.table, message, f.header, f.required, tag) == Status::kInvalidArgument);
});

const Test kHeader("verify_header binds header and required pairs, and nothing opens before it or after its refusal", [] {
  Fixture f;
  Tag tag;
  const Bytes body = f.seal(counting(10), tag);
  Bytes out(body.size());
  OpenedFrames opened;
  const KeyHandle early = f.resume();
  expect(open_frames(f.table, early, body, out, opened) == Status::kInvalidArgument);
  f.header[3] ^= 1;
  expect(verify_header(f.table, early, f.header, f.required, tag) == Status::kAuthenticationFailed);
  f.header[3] ^= 1;
  expect(open_frames(f.table, early, body, out, opened) == Status::kInvalidArgument);
  const KeyHandle without = f.resume();
  expect(verify_header(f.table, without, f.header, {}, tag) == Status::kAuthenticationFailed);
});

const Test kOnce("a header is sealed once and before frames, and a message seals or opens, never both", [] {
  Fixture f;
  const KeyHandle message = f.begin();
  Bytes body(sealed_length(0, kFrameLength, true));
  expect(seal_frames(f.table, message, {}, true, body) == Status::kInvalidArgument);
  const Tag tag = f.seal_header_of(message);
  Tag again = tag;
  expect(seal_header(f.table, message, f.header, {}, again) == Status::kInvalidArgument);
  OpenedFrames opened;
  Bytes out(body.size());
  expect(open_frames(f.table, message, body, out, opened) == Status::kInvalidArgument);
  expect(verify_header(f.table, message, f.header, f.required, tag) == Status::kInvalidArgument);
  expect(seek_frame(f.table, message, 1) == Status::kInvalidArgument);
  const KeyHandle opening = f.reopen(tag);
  expect(seal_frames(f.table, opening, {}, true, body) == Status::kInvalidArgument);
  expect(seal_header(f.table, opening, f.header, {}, again) == Status::kInvalidArgument);
});

const Test kSizes("seal_frames takes whole frames only before the last, and room of exactly the right size", [] {
  Fixture f;
  const KeyHandle message = f.begin();
  f.seal_header_of(message);
  const Bytes plaintext = counting(100);
  Bytes out(500);
  const std::span<uint8_t> room(out);
  expect(sealed_length(100, kFrameLength, false) == 0);
  expect(seal_frames(f.table, message, plaintext, false, room.first(132)) == Status::kInvalidArgument);
  const size_t length = sealed_length(100, kFrameLength, true);
  expect(length == 100 + 32 + 40);
  expect(seal_frames(f.table, message, plaintext, true, room.first(length - 1)) == Status::kInvalidArgument);
  expect(seal_frames(f.table, message, plaintext, true, room.first(length + 1)) == Status::kInvalidArgument);
  expect(seal_frames(f.table, message, room.first(100), true, room.first(length)) == Status::kInvalidArgument);
  expect(seal_frames(f.table, message, plaintext, true, room.first(length)) == Status::kOk);
  expect(!begin_message(f.table, f.data_key, 0, 0, f.id, f.commitment).ok());
});

const Test kNumbers("seal_frames stops before the number that marks the final frame, and writes nothing then", [] {
  Fixture f;
  const KeyHandle message = f.begin(1);
  f.seal_header_of(message);
  {
    KeyTable::Lease lease;
    expect(f.table.lease(message, lease));
    lease.message().next_sequence = 0xfffffffd;
  }
  const Bytes plaintext = counting(3);
  Bytes whole(sealed_length(3, 1, false));
  Bytes last(sealed_length(3, 1, true));
  expect(seal_frames(f.table, message, plaintext, false, whole) == Status::kInvalidArgument && all_zero(whole));
  expect(seal_frames(f.table, message, plaintext, true, last) == Status::kInvalidArgument && all_zero(last));
  Bytes one(sealed_length(1, 1, false));
  expect(seal_frames(f.table, message, std::span(plaintext).first(1), false, one) == Status::kOk);
  Bytes end(sealed_length(1, 1, true));
  expect(seal_frames(f.table, message, std::span(plaintext).last(1), true, end) == Status::kOk);
  expect(end[4] == 0xff && end[7] == 0xfe);
});

const Test kSingleBlock("open_frames opens a body that is not framed once it is whole", [] {
  Fixture f;
  const KeyHandle sealing = f.begin();
  const Tag tag = f.seal_header_of(sealing);
  KeyTable::Lease lease;
  expect(f.table.lease(sealing, lease));
  const Bytes plaintext = counting(100, 9);
  const char* const text = "AWSKMSEncryptionClient Single Block";
  Bytes aad;
  append(aad, f.id.data(), f.id.size());
  append(aad, text, std::strlen(text));
  for (const uint8_t byte : {0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 100}) {
    aad.push_back(byte);
  }
  const std::array<uint8_t, 12> nonce = {9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2};
  Bytes sealed(plaintext.size() + kTagLength);
  expect(gcm_seal(lease.key(), nonce, aad, plaintext, sealed) == Status::kOk);
  Bytes body(nonce.begin(), nonce.end());
  for (const uint8_t byte : {0, 0, 0, 0, 0, 0, 0, 100}) {
    body.push_back(byte);
  }
  body.insert(body.end(), sealed.begin(), sealed.end());
  expect(body.size() == plaintext.size() + kSingleBlockOverhead);

  const KeyHandle message = f.reopen(tag, 0);
  Bytes out(body.size());
  OpenedFrames opened;
  for (const size_t part : {size_t{0}, size_t{5}, size_t{19}, body.size() - 1}) {
    expect(open_frames(f.table, message, std::span(body).first(part), out, opened) == Status::kOk);
    expect(opened.consumed == 0 && !opened.final);
  }
  expect(seek_frame(f.table, message, 1) == Status::kInvalidArgument);
  expect(open_frames(f.table, message, body, out, opened) == Status::kOk);
  expect(opened.final && opened.produced == 100 && std::memcmp(out.data(), plaintext.data(), 100) == 0);

  body[12] = 0xff;
  const KeyHandle hostile = f.reopen(tag, 0);
  expect(open_frames(f.table, hostile, body, out, opened) == Status::kAuthenticationFailed);
});

const Test kSeek("seek_frame opens from any frame on, and no frame in the place of another", [] {
  Fixture f;
  const Bytes plaintext = counting(4 * kFrameLength + 1, 1);
  Tag tag;
  const Bytes body = f.seal(plaintext, tag);
  constexpr size_t kSealedFrame = kFrameLength + kFrameOverhead;
  const KeyHandle message = f.reopen(tag);
  Bytes out(body.size());
  OpenedFrames opened;
  expect(seek_frame(f.table, message, 3) == Status::kOk);
  expect(open_frames(f.table, message, std::span(body).subspan(2 * kSealedFrame, kSealedFrame), out, opened) ==
         Status::kOk);
  expect(opened.produced == kFrameLength && !opened.final);
  expect(std::memcmp(out.data(), plaintext.data() + 2 * kFrameLength, kFrameLength) == 0);
  expect(seek_frame(f.table, message, 0) == Status::kInvalidArgument);
  expect(seek_frame(f.table, message, 0xffffffff) == Status::kInvalidArgument);
  expect(seek_frame(f.table, message, 2) == Status::kOk);
  expect(open_frames(f.table, message, std::span(body).first(kSealedFrame), out, opened) ==
         Status::kAuthenticationFailed);
});

const Test kTurns("a message is worked on by one call at a time; no nonce is used twice whoever calls", [] {
  Fixture f;
  const KeyHandle message = f.begin(16);
  f.seal_header_of(message);
  const Bytes plaintext = counting(1600);
  std::array<Bytes, 4> bodies;
  std::atomic<int> sealed_calls{0};
  std::array<std::thread, 4> threads;
  for (size_t i = 0; i < threads.size(); ++i) {
    threads[i] = std::thread([&, i] {
      for (int round = 0; round < 50; ++round) {
        Bytes out(sealed_length(plaintext.size(), 16, false));
        const Status status = seal_frames(f.table, message, plaintext, false, out);
        if (status == Status::kOk) {
          bodies[i].insert(bodies[i].end(), out.begin(), out.end());
          ++sealed_calls;
        } else if (status != Status::kInvalidArgument) {
          sealed_calls = -1000;
        }
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  std::vector<bool> seen(static_cast<size_t>(sealed_calls) * 100 + 1);
  for (const Bytes& body : bodies) {
    for (size_t at = 0; at < body.size(); at += 16 + kFrameOverhead) {
      const size_t sequence = static_cast<size_t>(body[at + 2]) << 8 | body[at + 3];
      expect(sequence > 0 && sequence < seen.size() && !seen[sequence]);
      seen[sequence] = true;
    }
  }
  expect(sealed_calls > 0);
});

const Test kEpochs("an epoch serves as many wraps as it may, 2^28, and the next wrap has another one", [] {
  static_assert(kWrapsAnEpoch == 1U << 28);
  for (const uint32_t wraps : {1U, 3U, 1000U}) {
    EpochBudget budget(wraps);
    Epoch last{};
    for (int round = 0; round < 3; ++round) {
      Epoch first;
      expect(budget.next(first) == Status::kOk && first != last);
      for (uint32_t i = 1; i < wraps; ++i) {
        Epoch again;
        expect(budget.next(again) == Status::kOk && again == first);
      }
      last = first;
    }
  }
});

const Test kWrapped("unwrap_data_key gives back the data key, and refuses any change, context and key", [] {
  Fixture f;
  const Bytes context = counting(30, 40);
  std::array<uint8_t, kDataKeyInfoLength> info;
  std::array<uint8_t, kEncryptedDataKeyLength> encrypted;
  expect(wrap_data_key(f.table, f.message_key, f.data_key, context, info, encrypted) == Status::kOk);
  expect(info[32] == '.' && info[60] == 128 && info[64] == 12);
  const Result<KeyHandle> again = unwrap_data_key(f.table, f.message_key, info, encrypted, context, 0);
  expect(again.ok());
  KeyTable::Lease before;
  KeyTable::Lease after;
  expect(f.table.lease(f.data_key, before) && f.table.lease(again.value(), after));
  expect(std::memcmp(before.key().data(), after.key().data(), kKeyLength) == 0);

  const auto status_of = [&](std::span<const uint8_t> an_info, std::span<const uint8_t> bytes,
                             std::span<const uint8_t> a_context) {
    return unwrap_data_key(f.table, f.message_key, an_info, bytes, a_context, 0).status();
  };
  for (size_t bit = 0; bit < 8 * info.size(); ++bit) {
    info[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    expect(status_of(info, encrypted, context) == Status::kAuthenticationFailed);
    info[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  for (size_t bit = 0; bit < 8 * encrypted.size(); ++bit) {
    encrypted[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    expect(status_of(info, encrypted, context) == Status::kAuthenticationFailed);
    encrypted[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  expect(status_of(info, encrypted, {}) == Status::kAuthenticationFailed);
  expect(status_of(std::span(info).first(76), encrypted, context) == Status::kAuthenticationFailed);
  expect(status_of(info, std::span(encrypted).first(47), context) == Status::kAuthenticationFailed);
  // Head and nonce are right, and something lies between them.
  Bytes longer(info.begin(), info.end());
  longer.insert(longer.end() - static_cast<ptrdiff_t>(kGcmNonceLength), 0);
  expect(status_of(longer, encrypted, context) == Status::kAuthenticationFailed);
  const KeyHandle other = f.make(kMessageKeyUse);
  expect(unwrap_data_key(f.table, other, info, encrypted, context, 0).status() == Status::kAuthenticationFailed);
  expect(unwrap_data_key(f.table, f.data_key, info, encrypted, context, 0).status() == Status::kWrongUse);
  expect(wrap_data_key(f.table, f.message_key, f.message_key, context, info, encrypted) == Status::kWrongUse);
});

const Test kWrappedUnder("unwrap_data_key_under gives back the data key, and refuses any change, context, name and key", [] {
  Fixture f;
  const Bytes context = counting(30, 40);
  const Bytes name = {'k', 'e', 'y', '-', '1'};
  const KeyHandle raw = f.make(kRawAesUse);
  Bytes info(name.size() + kRawAesInfoTail);
  std::array<uint8_t, kEncryptedDataKeyLength> encrypted;
  expect(wrap_data_key_under(f.table, raw, name, f.data_key, context, info, encrypted) == Status::kOk);
  const uint8_t lengths[] = {0, 0, 0, 128, 0, 0, 0, 12};
  expect(std::memcmp(info.data(), name.data(), name.size()) == 0);
  expect(std::memcmp(info.data() + name.size(), lengths, sizeof lengths) == 0);
  const Result<KeyHandle> again = unwrap_data_key_under(f.table, raw, name, info, encrypted, context, 0);
  KeyTable::Lease before;
  KeyTable::Lease after;
  expect(again.ok() && f.table.lease(f.data_key, before) && f.table.lease(again.value(), after));
  expect(after.use() == kDataKeyUse);
  expect(std::memcmp(before.key().data(), after.key().data(), kKeyLength) == 0);
  // What another program finds with the key: AES-256-GCM of the data key itself.
  KeyTable::Lease under;
  Secret<kKeyLength> plaintext;
  expect(f.table.lease(raw, under));
  Gcm gcm(Direction::kOpen);
  expect(gcm.start(under.key(), std::span<const uint8_t>(info).last<kGcmNonceLength>()) == Status::kOk);
  expect(gcm.open(context, std::span(encrypted).first<kKeyLength>(), std::span(encrypted).last<kTagLength>(),
                  plaintext.bytes().data()) == Status::kOk);
  expect(std::memcmp(plaintext.bytes().data(), before.key().data(), kKeyLength) == 0);

  const uint32_t used = f.table.stats().used;
  const auto status_of = [&](std::span<const uint8_t> an_info, std::span<const uint8_t> bytes,
                             std::span<const uint8_t> a_context) {
    return unwrap_data_key_under(f.table, raw, name, an_info, bytes, a_context, 0).status();
  };
  for (size_t bit = 0; bit < 8 * info.size(); ++bit) {
    info[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    expect(status_of(info, encrypted, context) == Status::kAuthenticationFailed);
    info[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  for (size_t bit = 0; bit < 8 * encrypted.size(); ++bit) {
    encrypted[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
    expect(status_of(info, encrypted, context) == Status::kAuthenticationFailed);
    encrypted[bit / 8] ^= static_cast<uint8_t>(1 << bit % 8);
  }
  expect(status_of(info, encrypted, {}) == Status::kAuthenticationFailed);
  expect(status_of({}, encrypted, context) == Status::kAuthenticationFailed);
  expect(status_of(std::span(info).first(info.size() - 1), encrypted, context) == Status::kAuthenticationFailed);
  expect(status_of(info, std::span(encrypted).first(47), context) == Status::kAuthenticationFailed);
  // A longer name that begins with it is another key's.
  Bytes longer = info;
  longer.insert(longer.begin() + static_cast<ptrdiff_t>(name.size()), '0');
  expect(status_of(longer, encrypted, context) == Status::kAuthenticationFailed);
  const KeyHandle other = f.make(kRawAesUse);
  expect(unwrap_data_key_under(f.table, other, name, info, encrypted, context, 0).status() ==
         Status::kAuthenticationFailed);
  expect(f.table.stats().used == used + 1);
});

const Test kWrappedUnderUses("a raw AES key wraps data keys and does nothing else, and nothing else does its work", [] {
  Fixture f;
  const KeyHandle raw = f.make(kRawAesUse);
  const Bytes name = {'k'};
  Bytes info(name.size() + kRawAesInfoTail);
  std::array<uint8_t, kEncryptedDataKeyLength> encrypted;
  const auto status_of = [&](KeyHandle under, KeyHandle key) {
    return wrap_data_key_under(f.table, under, name, key, {}, info, encrypted);
  };
  expect(status_of(f.message_key, f.data_key) == Status::kWrongUse);
  expect(status_of(f.data_key, f.data_key) == Status::kWrongUse);
  expect(status_of(raw, raw) == Status::kWrongUse);
  expect(status_of(raw, f.data_key) == Status::kOk);
  expect(unwrap_data_key_under(f.table, f.message_key, name, info, encrypted, {}, 0).status() == Status::kWrongUse);
  expect(wrap_data_key_under(f.table, raw, name, f.data_key, {}, std::span(info).first(5), encrypted) ==
         Status::kInvalidArgument);
  expect(begin_message(f.table, raw, kFrameLength, 0, f.id, f.commitment).status() == Status::kWrongUse);
  std::array<uint8_t, kWrappedKeyLength> wrapped;
  expect(wrap_key(f.table, raw, name, f.data_key, {}, wrapped) == Status::kWrongUse);
  f.table.destroy(raw);
  expect(status_of(raw, f.data_key) == Status::kStaleKey);
});

const Test kUses("a body key, a data key and a message key do not do each other's work", [] {
  Fixture f;
  const KeyHandle body = f.begin();
  expect(!begin_message(f.table, body, kFrameLength, 0, f.id, f.commitment).ok());
  expect(begin_message(f.table, f.message_key, kFrameLength, 0, f.id, f.commitment).status() == Status::kWrongUse);
  Tag tag;
  expect(seal_header(f.table, f.data_key, f.header, {}, tag) == Status::kWrongUse);
  f.table.destroy(body);
  expect(seal_header(f.table, body, f.header, {}, tag) == Status::kStaleKey);
  Bytes bytes = counting(32);
  expect(import_secret(f.table, bytes, kBodyUse, 0).status() == Status::kWrongUse && all_zero(bytes));
});

}  // namespace
}  // namespace dekd::test
