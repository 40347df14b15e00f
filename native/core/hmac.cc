#include "hmac.h"

#include <algorithm>

#include "openssl_ptr.h"
#include "secret.h"

namespace dekd {
namespace {

constexpr size_t kDigestBlock = 64;

thread_local DigestContextPtr digest_context;

// `out` may be one of the parts: nothing is written before all of them are read.
bool digest(std::span<const uint8_t> first, std::initializer_list<std::span<const uint8_t>> rest,
            std::span<uint8_t, kDigestLength> out) {
  EVP_MD_CTX* const context = digest_context.get();
  bool done = EVP_DigestInit_ex2(context, nullptr, nullptr) == 1 &&
              EVP_DigestUpdate(context, first.data(), first.size()) == 1;
  for (const std::span<const uint8_t> part : rest) {
    done = done && EVP_DigestUpdate(context, part.data(), part.size()) == 1;
  }
  return done && EVP_DigestFinal_ex(context, out.data(), nullptr) == 1;
}

bool prepare_context() {
  if (digest_context == nullptr) {
    const ErrorMark mark;
    DigestContextPtr context(EVP_MD_CTX_new());
    if (context == nullptr || EVP_DigestInit_ex2(context.get(), algorithms().sha_256, nullptr) != 1) {
      return false;
    }
    digest_context = std::move(context);
  }
  return true;
}

}  // namespace

Status hmac_sha_256(std::span<const uint8_t> key, std::initializer_list<std::span<const uint8_t>> parts,
                    std::span<uint8_t, kDigestLength> out) {
  if (!prepare_context()) {
    return Status::kCryptoFailed;
  }
  Secret<kDigestBlock> inner_key;
  Secret<kDigestBlock> outer_key;
  Secret<kDigestLength> inner;
  bool done = true;
  if (key.size() > kDigestBlock) {
    // RFC 2104 section 2: a key longer than the block is replaced by its digest.
    done = digest(key, {}, inner_key.bytes().first<kDigestLength>());
  } else {
    std::copy(key.begin(), key.end(), inner_key.bytes().begin());
  }
  for (size_t i = 0; i < kDigestBlock; ++i) {
    const uint8_t byte = inner_key.bytes()[i];
    inner_key.bytes()[i] = byte ^ 0x36;
    outer_key.bytes()[i] = byte ^ 0x5c;
  }
  done = done && digest(inner_key.bytes(), parts, inner.bytes()) && digest(outer_key.bytes(), {inner.bytes()}, out);
  // Starting anew zeroes the state and the block buffer, which hold what is as good as the key.
  if (EVP_DigestInit_ex2(digest_context.get(), nullptr, nullptr) != 1) {
    digest_context.reset();
  }
  if (!done) {
    wipe(out);
  }
  return done ? Status::kOk : Status::kCryptoFailed;
}

Status hkdf_sha_256(std::span<const uint8_t> secret, std::span<const uint8_t> salt, std::span<const uint8_t> info,
                    std::span<uint8_t> out) {
  if (out.size() > 255 * kDigestLength) {
    return Status::kInvalidArgument;
  }
  Secret<kDigestLength> extracted;
  Secret<kDigestLength> block;
  // RFC 5869 2.2: an absent salt is a digest of zeros, which HMAC pads to the same key as an empty one.
  Status status = hmac_sha_256(salt, {secret}, extracted.bytes());
  size_t filled = 0;
  for (uint8_t counter = 1; status == Status::kOk && filled < out.size(); ++counter) {
    const std::span<const uint8_t> previous = block.bytes().first(filled == 0 ? 0 : kDigestLength);
    status = hmac_sha_256(extracted.bytes(), {previous, info, {&counter, 1}}, block.bytes());
    const size_t take = std::min(kDigestLength, out.size() - filled);
    std::copy_n(block.bytes().begin(), take, out.begin() + static_cast<ptrdiff_t>(filled));
    filled += take;
  }
  if (status != Status::kOk) {
    wipe(out);
  }
  return status;
}

}  // namespace dekd
