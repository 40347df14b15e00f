#ifndef DEKD_CORE_TOKEN_H_
#define DEKD_CORE_TOKEN_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "aead.h"
#include "key_table.h"
#include "status.h"
#include "xaes.h"

namespace dekd {

// A token: C1 | suite 01 | kid 16 | nonce 24 | ciphertext | tag 16. The first 18 bytes and the context are its AAD.
inline constexpr size_t kTokenHeadLength = 2 + kKidLength;
inline constexpr size_t kTokenOverhead = kTokenHeadLength + kXaesNonceLength + kTagLength;
static_assert(kTokenOverhead == 58);

// One row of the table of seal_many and open_many: words as `ROW` in `src/crypto/engine.ts` names them. Offsets and
// lengths are in bytes.
inline constexpr size_t kRowWords = 8;
enum Row : size_t {
  kRowKey = 0,
  kRowContextOffset = 1,
  kRowContextLength = 2,
  kRowDataOffset = 3,
  kRowDataLength = 4,
  kRowOutOffset = 5,
  kRowStatus = 6,
};
// Values of the status word.
inline constexpr uint32_t kRowOk = 0;
inline constexpr uint32_t kRowFailed = 1;
inline constexpr uint32_t kRowStaleKey = 2;
inline constexpr uint32_t kRowSkip = 0xffffffff;

// seal_token seals `plaintext` under `key` with a fresh random nonce; `out` is plaintext.size() + kTokenOverhead bytes
// and overlaps neither input. Any thread.
Status seal_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                  std::span<const uint8_t> plaintext, std::span<uint8_t> out);

// open_token opens a token that was sealed under `key` with the same context. `out` is token.size() - kTokenOverhead
// bytes and overlaps neither input; it is zeros unless the result is kOk. Any thread. `token` must not change during
// the call: memory that a peer can write is to be copied first.
Status open_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context, std::span<const uint8_t> token,
                  std::span<uint8_t> out);

// seal_shared_token is seal_token for memory that a peer can change meanwhile; `context` is private memory.
//
// Head, nonce, AAD and tag are made in private memory, in one pass. By changing `plaintext` or `out` during the call the
// peer gets a token of bytes that it chose, which it may have sealed anyway, or one that does not open. Not more, even
// where OpenSSL reads ciphertext back from `out` to authenticate it: the key is derived for this token alone, its key
// stream is used once, and one tag leaves.
Status seal_shared_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                         std::span<const uint8_t> plaintext, std::span<uint8_t> out);

// open_shared_token is open_token for such memory. The token is copied in and opened in private memory, and the plaintext
// is copied out once its tag was found right: until then, and for good when it is not, nothing is written to `out`.
// kSystemFailed when there is no private memory for it.
Status open_shared_token(KeyTable& table, KeyHandle key, std::span<const uint8_t> context,
                         std::span<const uint8_t> token, std::span<uint8_t> out);

// seal_many seals each row whose status is not kRowSkip. One nonce is drawn for the call and the row's index is added to
// its last 12 bytes (big-endian, mod 2^96), so rows share the derived key while they share the key; the draw is not
// kept. The status word says ok, failed or stale key; the output region of a row that is not ok is zeros.
// kInvalidArgument when a row reaches outside of `input` or `output` or its regions overlap, kWrongUse when a key is not
// for tokens; both are found before the first row is touched.
Status seal_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> input, std::span<uint8_t> output);

// open_many opens each row whose status is not kRowSkip, deriving anew only when key or nonce prefix change.
Status open_many(KeyTable& table, std::span<uint32_t> rows, std::span<const uint8_t> input, std::span<uint8_t> output);

}  // namespace dekd

#endif  // DEKD_CORE_TOKEN_H_
