/* A PKCS#11 module that is another one (SLOW_CRYPTOKI_MODULE), but whose C_Encrypt does not return while a file
 * (SLOW_CRYPTOKI_GATE) exists: a device that hangs, for tests. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

#define CK_PTR *
#define CK_DECLARE_FUNCTION(returnType, name) returnType name
#define CK_DECLARE_FUNCTION_POINTER(returnType, name) returnType(*name)
#define CK_CALLBACK_FUNCTION(returnType, name) returnType(*name)
#ifndef NULL_PTR
#define NULL_PTR 0
#endif
#include "pkcs11.h"

static CK_FUNCTION_LIST list;
static CK_C_Encrypt encrypt;

static CK_RV slow_encrypt(CK_SESSION_HANDLE session, CK_BYTE_PTR data, CK_ULONG data_len, CK_BYTE_PTR out,
                          CK_ULONG_PTR out_len) {
  while (access(getenv("SLOW_CRYPTOKI_GATE"), F_OK) == 0) {
    usleep(5000);
  }
  return encrypt(session, data, data_len, out, out_len);
}

CK_RV C_GetFunctionList(CK_FUNCTION_LIST_PTR_PTR functions) {
  if (encrypt == NULL) {
    void *module = dlopen(getenv("SLOW_CRYPTOKI_MODULE"), RTLD_NOW | RTLD_LOCAL);
    if (module == NULL) {
      return CKR_GENERAL_ERROR;
    }
    CK_C_GetFunctionList get = (CK_C_GetFunctionList)dlsym(module, "C_GetFunctionList");
    CK_FUNCTION_LIST_PTR original;
    CK_RV rv = get(&original);
    if (rv != CKR_OK) {
      return rv;
    }
    list = *original;
    encrypt = list.C_Encrypt;
    list.C_Encrypt = slow_encrypt;
  }
  *functions = &list;
  return CKR_OK;
}
