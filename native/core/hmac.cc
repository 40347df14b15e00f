#include "hmac.h"

#include <algorithm>

#include "openssl_ptr.h"
#include "secret.h"

namespace dekd {
namespace {

// A hash function (FIPS 180-4) and the calling thread's context for it.
struct Sha256 final {
  static constexpr size_t kBlock = 64;
  static constexpr size_t kLength = kDigestLength;
  static const EVP_MD* algorithm() { return algorithms().sha_256; }
  static inline thread_local DigestContextPtr context;
};

struct Sha512 final {
  static constexpr size_t kBlock = 128;
  static constexpr size_t kLength = kLongDigestLength;
  static const EVP_MD* algorithm() { return algorithms().sha_512; }
  static inline thread_local DigestContextPtr context;
};

// `out` may be one of the parts: nothing is written before all of them are read.
template <typename Hash>
bool digest(std::span<const uint8_t> first, std::initializer_list<std::span<const uint8_t>> rest,
            std::span<uint8_t, Hash::kLength> out) {
  EVP_MD_CTX* const context = Hash::context.get();
  bool done = EVP_DigestInit_ex2(context, nullptr, nullptr) == 1 &&
              EVP_DigestUpdate(context, first.data(), first.size()) == 1;
  for (const std::span<const uint8_t> part : rest) {
    done = done && EVP_DigestUpdate(context, part.data(), part.size()) == 1;
  }
  return done && EVP_DigestFinal_ex(context, out.data(), nullptr) == 1;
}

template <typename Hash>
bool prepare_context() {
  if (Hash::context == nullptr) {
    const ErrorMark mark;
    DigestContextPtr context(EVP_MD_CTX_new());
    if (context == nullptr || EVP_DigestInit_ex2(context.get(), Hash::algorithm(), nullptr) != 1) {
      return false;
    }
    Hash::context = std::move(context);
  }
  return true;
}

template <typename Hash>
Status hmac(std::span<const uint8_t> key, std::initializer_list<std::span<const uint8_t>> parts,
            std::span<uint8_t, Hash::kLength> out) {
  if (!prepare_context<Hash>()) {
    return Status::kCryptoFailed;
  }
  Secret<Hash::kBlock> inner_key;
  Secret<Hash::kBlock> outer_key;
  Secret<Hash::kLength> inner;
  bool done = true;
  if (key.size() > Hash::kBlock) {
    // RFC 2104 section 2: a key longer than the block is replaced by its digest.
    done = digest<Hash>(key, {}, inner_key.bytes().template first<Hash::kLength>());
  } else {
    std::copy(key.begin(), key.end(), inner_key.bytes().begin());
  }
  for (size_t i = 0; i < Hash::kBlock; ++i) {
    const uint8_t byte = inner_key.bytes()[i];
    inner_key.bytes()[i] = byte ^ 0x36;
    outer_key.bytes()[i] = byte ^ 0x5c;
  }
  done = done && digest<Hash>(inner_key.bytes(), parts, inner.bytes()) &&
         digest<Hash>(outer_key.bytes(), {inner.bytes()}, out);
  // Starting anew zeroes the state and the block buffer, which hold what is as good as the key.
  if (EVP_DigestInit_ex2(Hash::context.get(), nullptr, nullptr) != 1) {
    Hash::context.reset();
  }
  if (!done) {
    wipe(out);
  }
  return done ? Status::kOk : Status::kCryptoFailed;
}

template <typename Hash>
Status hkdf(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
            std::span<uint8_t> out) {
  if (out.size() > 255 * Hash::kLength) {
    return Status::kInvalidArgument;
  }
  Secret<Hash::kLength> extracted;
  Secret<Hash::kLength> block;
  // RFC 5869 2.2: an absent salt is a digest of zeros, which HMAC pads to the same key as an empty one.
  Status status = hmac<Hash>(salt, {secret}, extracted.bytes());
  size_t filled = 0;
  for (uint8_t counter = 1; status == Status::kOk && filled < out.size(); ++counter) {
    const std::span<const uint8_t> previous = block.bytes().first(filled == 0 ? 0 : Hash::kLength);
    status = hmac<Hash>(extracted.bytes(), {previous, info, {&counter, 1}}, block.bytes());
    const size_t take = std::min(Hash::kLength, out.size() - filled);
    std::copy_n(block.bytes().begin(), take, out.begin() + static_cast<ptrdiff_t>(filled));
    filled += take;
  }
  if (status != Status::kOk) {
    wipe(out);
  }
  return status;
}

}  // namespace

Status hmac_sha_256(std::span<const uint8_t> key, std::initializer_list<std::span<const uint8_t>> parts,
                    std::span<uint8_t, kDigestLength> out) {
  return hmac<Sha256>(key, parts, out);
}

Status hkdf_sha_256(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
                    std::span<uint8_t> out) {
  return hkdf<Sha256>(secret, salt, info, out);
}

Status hkdf_sha_512(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
                    std::span<uint8_t> out) {
  return hkdf<Sha512>(secret, salt, info, out);
}

}  // namespace dekd
