#include "xaes.h"

#include <array>
#include <cstring>

#include "secret.h"

namespace dekd {

Status xaes_k1(std::span<const uint8_t, 32> key, std::span<uint8_t, 16> k1) {
  // encrypt_two_blocks has no one-block form; the second block goes unused.
  constexpr std::array<uint8_t, 32> kZero{};
  Secret<32> l;
  const Status status = encrypt_two_blocks(key, kZero, l.bytes());
  if (status != Status::kOk) {
    return status;
  }
  // Doubling in GF(2^128), SP 800-38B 6.1, without a branch on the secret bit.
  const std::span<uint8_t, 32> in = l.bytes();
  const auto reduce = static_cast<uint8_t>(0x87 & -(in[0] >> 7));
  for (size_t i = 0; i < 15; ++i) {
    k1[i] = static_cast<uint8_t>((in[i] << 1) | (in[i + 1] >> 7));
  }
  k1[15] = static_cast<uint8_t>((in[15] << 1) ^ reduce);
  return Status::kOk;
}

Status xaes_subkey(std::span<const uint8_t, 32> key, std::span<const uint8_t, 16> k1,
                   std::span<const uint8_t, kXaesPrefixLength> prefix, std::span<uint8_t, 32> out) {
  // M = counter (u16) | "X" | 00 | prefix is one full block, so its CMAC is AES(K, M xor K1). Built in words: bytes
  // stored one by one stall the block load that follows.
  Secret<32> blocks;
  uint64_t mask[2];
  uint64_t block[2] = {};
  std::memcpy(mask, k1.data(), sizeof mask);
  std::memcpy(reinterpret_cast<uint8_t*>(block) + 4, prefix.data(), prefix.size());
  for (size_t counter = 1; counter <= 2; ++counter) {
    const uint8_t head[4] = {0, static_cast<uint8_t>(counter), 'X', 0};
    uint32_t first = 0;
    std::memcpy(&first, head, sizeof first);
    std::memcpy(block, &first, sizeof first);
    const uint64_t masked[2] = {block[0] ^ mask[0], block[1] ^ mask[1]};
    std::memcpy(blocks.bytes().data() + 16 * (counter - 1), masked, sizeof masked);
  }
  return encrypt_two_blocks(key, blocks.bytes(), out);
}

Status xaes_start(Gcm& gcm, std::span<const uint8_t, 32> key, std::span<const uint8_t, 16> k1,
                  std::span<const uint8_t, kXaesNonceLength> nonce) {
  Secret<32> subkey;
  const Status status = xaes_subkey(key, k1, nonce.first<kXaesPrefixLength>(), subkey.bytes());
  return status == Status::kOk ? gcm.start(subkey.bytes(), nonce.last<kGcmNonceLength>()) : status;
}

}  // namespace dekd
