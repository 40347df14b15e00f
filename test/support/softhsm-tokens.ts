/** Makes tokens of a PKCS#11 module: node softhsm-tokens.ts MODULE PLANS-AS-JSON, with its environment set. */
import pkcs11 from 'pkcs11js';

export interface KeyPlan {
  readonly label: string;
  /** Hex; none when it is left out. */
  readonly id?: string;
  /** Hex of the key; drawn by the token when it is left out. */
  readonly value?: string;
  /** Bytes, 32 unless given. */
  readonly size?: number;
  readonly encrypt?: boolean;
  readonly decrypt?: boolean;
  readonly extractable?: boolean;
}

export interface TokenPlan {
  readonly label: string;
  readonly pin?: string;
  readonly keys: readonly KeyPlan[];
}

const OFFICER_PIN = '87654321';
const OFFICER = 0;
const USER = 1;

if (process.argv[1] === import.meta.filename) {
  const [path, plans] = process.argv.slice(2);
  const module = new pkcs11.PKCS11(path);
  module.C_Initialize();
  for (const plan of JSON.parse(plans!) as TokenPlan[]) {
    makeToken(module, plan);
  }
  module.C_Finalize();
}

function makeToken(module: pkcs11.PKCS11, { label, pin = '5678', keys }: TokenPlan): void {
  const free = module.C_GetSlotList(true).at(-1)!;
  module.C_InitToken(free, OFFICER_PIN, label.padEnd(32));
  const session = module.C_OpenSession(free, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
  module.C_Login(session, OFFICER, OFFICER_PIN);
  module.C_InitPIN(session, pin);
  module.C_Logout(session);
  module.C_Login(session, USER, pin);
  for (const key of keys) {
    makeKey(module, session, key);
  }
  module.C_Logout(session);
  module.C_CloseSession(session);
}

function makeKey(module: pkcs11.PKCS11, session: Buffer, key: KeyPlan): void {
  const { label, id, value, size = 32, encrypt = true, decrypt = true, extractable = false } = key;
  const template = [
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_SECRET_KEY },
    { type: pkcs11.CKA_KEY_TYPE, value: pkcs11.CKK_AES },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_PRIVATE, value: true },
    { type: pkcs11.CKA_SENSITIVE, value: true },
    { type: pkcs11.CKA_EXTRACTABLE, value: extractable },
    { type: pkcs11.CKA_ENCRYPT, value: encrypt },
    { type: pkcs11.CKA_DECRYPT, value: decrypt },
    { type: pkcs11.CKA_WRAP, value: encrypt },
    { type: pkcs11.CKA_UNWRAP, value: decrypt },
    { type: pkcs11.CKA_LABEL, value: label },
    ...(id === undefined ? [] : [{ type: pkcs11.CKA_ID, value: Buffer.from(id, 'hex') }]),
  ];
  if (value === undefined) {
    const length = { type: pkcs11.CKA_VALUE_LEN, value: size };
    module.C_GenerateKey(session, { mechanism: pkcs11.CKM_AES_KEY_GEN }, [...template, length]);
  } else {
    module.C_CreateObject(session, [...template, { type: pkcs11.CKA_VALUE, value: Buffer.from(value, 'hex') }]);
  }
}
