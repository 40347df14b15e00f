#include "openssl_ptr.h"

namespace dekd {

const Algorithms& algorithms() {
  static const Algorithms kAlgorithms = [] {
    const ErrorMark mark;
    return Algorithms{EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr),
                      EVP_CIPHER_fetch(nullptr, "AES-256-ECB", nullptr), EVP_MD_fetch(nullptr, "SHA2-256", nullptr),
                      EVP_MD_fetch(nullptr, "SHA2-512", nullptr)};
  }();
  return kAlgorithms;
}

}  // namespace dekd
