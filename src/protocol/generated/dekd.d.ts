import * as $protobuf from "protobufjs";
import Long = require("long");

/** Namespace dekd. */
export namespace dekd {

    /** Namespace v1. */
    namespace v1 {

        /**
         * Properties of a Request.
         * @deprecated Use dekd.v1.Request.$Properties instead.
         */
        interface IRequest extends dekd.v1.Request.$Properties {
        }

        /** Represents a Request. */
        class Request {

            /**
             * Constructs a new Request.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Request.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Request id. */
            id: number;

            /** Request timeoutMs. */
            timeoutMs: number;

            /** Request hello. */
            hello?: (dekd.v1.Hello.$Properties|null);

            /** Request cancel. */
            cancel?: (dekd.v1.Cancel.$Properties|null);

            /** Request ping. */
            ping?: (dekd.v1.Ping.$Properties|null);

            /** Request keyInfo. */
            keyInfo?: (dekd.v1.KeyInfo.$Properties|null);

            /** Request admin. */
            admin?: (dekd.v1.Admin.$Properties|null);

            /** Request encrypt. */
            encrypt?: (dekd.v1.Encrypt.$Properties|null);

            /** Request decrypt. */
            decrypt?: (dekd.v1.Decrypt.$Properties|null);

            /** Request reencrypt. */
            reencrypt?: (dekd.v1.Reencrypt.$Properties|null);

            /** Request encryptMany. */
            encryptMany?: (dekd.v1.Many.$Properties|null);

            /** Request decryptMany. */
            decryptMany?: (dekd.v1.Many.$Properties|null);

            /** Request reencryptMany. */
            reencryptMany?: (dekd.v1.Many.$Properties|null);

            /** Request encryptStream. */
            encryptStream?: (dekd.v1.OpenStream.$Properties|null);

            /** Request decryptStream. */
            decryptStream?: (dekd.v1.OpenStream.$Properties|null);

            /** Request streamPart. */
            streamPart?: (dekd.v1.StreamPart.$Properties|null);

            /** Request laneEncrypt. */
            laneEncrypt?: (dekd.v1.LaneCall.$Properties|null);

            /** Request laneDecrypt. */
            laneDecrypt?: (dekd.v1.LaneCall.$Properties|null);

            /** Request fileEncrypt. */
            fileEncrypt?: (dekd.v1.FileCall.$Properties|null);

            /** Request fileDecrypt. */
            fileDecrypt?: (dekd.v1.FileCall.$Properties|null);

            /** Request hmac. */
            hmac?: (dekd.v1.Hmac.$Properties|null);

            /** Request blindIndex. */
            blindIndex?: (dekd.v1.BlindIndex.$Properties|null);

            /** Request reencryptStream. */
            reencryptStream?: (dekd.v1.OpenStream.$Properties|null);

            /** Request verifyHmac. */
            verifyHmac?: (dekd.v1.VerifyHmac.$Properties|null);

            /** Request hmacMany. */
            hmacMany?: (dekd.v1.Many.$Properties|null);

            /** Request verifyHmacMany. */
            verifyHmacMany?: (dekd.v1.Many.$Properties|null);

            /** Request roots. */
            roots?: (dekd.v1.Roots.$Properties|null);

            /** Request rights. */
            rights?: (dekd.v1.Rights.$Properties|null);

            /** Request openLegacy. */
            openLegacy?: (dekd.v1.Many.$Properties|null);

            /** Request migrateLegacy. */
            migrateLegacy?: (dekd.v1.Many.$Properties|null);

            /** Request traceparent. */
            traceparent: string;

            /** Request operation. */
            operation?: ("hello"|"cancel"|"ping"|"keyInfo"|"admin"|"encrypt"|"decrypt"|"reencrypt"|"encryptMany"|"decryptMany"|"reencryptMany"|"encryptStream"|"decryptStream"|"streamPart"|"laneEncrypt"|"laneDecrypt"|"fileEncrypt"|"fileDecrypt"|"hmac"|"blindIndex"|"reencryptStream"|"verifyHmac"|"hmacMany"|"verifyHmacMany"|"roots"|"rights"|"openLegacy"|"migrateLegacy");

            /**
             * Encodes the specified Request message. Does not implicitly {@link dekd.v1.Request.verify|verify} messages.
             * @param message Request message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Request.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Request message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Request & dekd.v1.Request.$Shape} Request
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Request & dekd.v1.Request.$Shape;
        }

        namespace Request {

            /** Properties of a Request. */
            interface $Properties {

                /** Request id */
                id?: (number|null);

                /** Request timeoutMs */
                timeoutMs?: (number|null);

                /** Request hello */
                hello?: (dekd.v1.Hello.$Properties|null);

                /** Request cancel */
                cancel?: (dekd.v1.Cancel.$Properties|null);

                /** Request ping */
                ping?: (dekd.v1.Ping.$Properties|null);

                /** Request keyInfo */
                keyInfo?: (dekd.v1.KeyInfo.$Properties|null);

                /** Request admin */
                admin?: (dekd.v1.Admin.$Properties|null);

                /** Request encrypt */
                encrypt?: (dekd.v1.Encrypt.$Properties|null);

                /** Request decrypt */
                decrypt?: (dekd.v1.Decrypt.$Properties|null);

                /** Request reencrypt */
                reencrypt?: (dekd.v1.Reencrypt.$Properties|null);

                /** Request encryptMany */
                encryptMany?: (dekd.v1.Many.$Properties|null);

                /** Request decryptMany */
                decryptMany?: (dekd.v1.Many.$Properties|null);

                /** Request reencryptMany */
                reencryptMany?: (dekd.v1.Many.$Properties|null);

                /** Request encryptStream */
                encryptStream?: (dekd.v1.OpenStream.$Properties|null);

                /** Request decryptStream */
                decryptStream?: (dekd.v1.OpenStream.$Properties|null);

                /** Request streamPart */
                streamPart?: (dekd.v1.StreamPart.$Properties|null);

                /** Request laneEncrypt */
                laneEncrypt?: (dekd.v1.LaneCall.$Properties|null);

                /** Request laneDecrypt */
                laneDecrypt?: (dekd.v1.LaneCall.$Properties|null);

                /** Request fileEncrypt */
                fileEncrypt?: (dekd.v1.FileCall.$Properties|null);

                /** Request fileDecrypt */
                fileDecrypt?: (dekd.v1.FileCall.$Properties|null);

                /** Request hmac */
                hmac?: (dekd.v1.Hmac.$Properties|null);

                /** Request blindIndex */
                blindIndex?: (dekd.v1.BlindIndex.$Properties|null);

                /** Request reencryptStream */
                reencryptStream?: (dekd.v1.OpenStream.$Properties|null);

                /** Request verifyHmac */
                verifyHmac?: (dekd.v1.VerifyHmac.$Properties|null);

                /** Request hmacMany */
                hmacMany?: (dekd.v1.Many.$Properties|null);

                /** Request verifyHmacMany */
                verifyHmacMany?: (dekd.v1.Many.$Properties|null);

                /** Request roots */
                roots?: (dekd.v1.Roots.$Properties|null);

                /** Request rights */
                rights?: (dekd.v1.Rights.$Properties|null);

                /** Request openLegacy */
                openLegacy?: (dekd.v1.Many.$Properties|null);

                /** Request migrateLegacy */
                migrateLegacy?: (dekd.v1.Many.$Properties|null);

                /** Request traceparent */
                traceparent?: (string|null);

                /** Request operation */
                operation?: ("hello"|"cancel"|"ping"|"keyInfo"|"admin"|"encrypt"|"decrypt"|"reencrypt"|"encryptMany"|"decryptMany"|"reencryptMany"|"encryptStream"|"decryptStream"|"streamPart"|"laneEncrypt"|"laneDecrypt"|"fileEncrypt"|"fileDecrypt"|"hmac"|"blindIndex"|"reencryptStream"|"verifyHmac"|"hmacMany"|"verifyHmacMany"|"roots"|"rights"|"openLegacy"|"migrateLegacy");

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Narrowed shape of a Request. */
            type $Shape = {
              id?: number|null;
              timeoutMs?: number|null;
              hello?: dekd.v1.Hello.$Shape|null;
              cancel?: dekd.v1.Cancel.$Shape|null;
              ping?: dekd.v1.Ping.$Shape|null;
              keyInfo?: dekd.v1.KeyInfo.$Shape|null;
              admin?: dekd.v1.Admin.$Shape|null;
              encrypt?: dekd.v1.Encrypt.$Shape|null;
              decrypt?: dekd.v1.Decrypt.$Shape|null;
              reencrypt?: dekd.v1.Reencrypt.$Shape|null;
              encryptMany?: dekd.v1.Many.$Shape|null;
              decryptMany?: dekd.v1.Many.$Shape|null;
              reencryptMany?: dekd.v1.Many.$Shape|null;
              encryptStream?: dekd.v1.OpenStream.$Shape|null;
              decryptStream?: dekd.v1.OpenStream.$Shape|null;
              streamPart?: dekd.v1.StreamPart.$Shape|null;
              laneEncrypt?: dekd.v1.LaneCall.$Shape|null;
              laneDecrypt?: dekd.v1.LaneCall.$Shape|null;
              fileEncrypt?: dekd.v1.FileCall.$Shape|null;
              fileDecrypt?: dekd.v1.FileCall.$Shape|null;
              hmac?: dekd.v1.Hmac.$Shape|null;
              blindIndex?: dekd.v1.BlindIndex.$Shape|null;
              reencryptStream?: dekd.v1.OpenStream.$Shape|null;
              verifyHmac?: dekd.v1.VerifyHmac.$Shape|null;
              hmacMany?: dekd.v1.Many.$Shape|null;
              verifyHmacMany?: dekd.v1.Many.$Shape|null;
              roots?: dekd.v1.Roots.$Shape|null;
              rights?: dekd.v1.Rights.$Shape|null;
              openLegacy?: dekd.v1.Many.$Shape|null;
              migrateLegacy?: dekd.v1.Many.$Shape|null;
              traceparent?: string|null;
              $unknowns?: Uint8Array[];
            } & (
              ({ operation?: undefined; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "hello"; hello: dekd.v1.Hello.$Shape; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "cancel"; hello?: null; cancel: dekd.v1.Cancel.$Shape; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "ping"; hello?: null; cancel?: null; ping: dekd.v1.Ping.$Shape; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "keyInfo"; hello?: null; cancel?: null; ping?: null; keyInfo: dekd.v1.KeyInfo.$Shape; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "admin"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin: dekd.v1.Admin.$Shape; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "encrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt: dekd.v1.Encrypt.$Shape; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "decrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt: dekd.v1.Decrypt.$Shape; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "reencrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt: dekd.v1.Reencrypt.$Shape; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "encryptMany"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany: dekd.v1.Many.$Shape; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "decryptMany"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany: dekd.v1.Many.$Shape; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "reencryptMany"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany: dekd.v1.Many.$Shape; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "encryptStream"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream: dekd.v1.OpenStream.$Shape; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "decryptStream"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream: dekd.v1.OpenStream.$Shape; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "streamPart"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart: dekd.v1.StreamPart.$Shape; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "laneEncrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt: dekd.v1.LaneCall.$Shape; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "laneDecrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt: dekd.v1.LaneCall.$Shape; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "fileEncrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt: dekd.v1.FileCall.$Shape; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "fileDecrypt"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt: dekd.v1.FileCall.$Shape; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "hmac"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac: dekd.v1.Hmac.$Shape; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "blindIndex"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex: dekd.v1.BlindIndex.$Shape; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "reencryptStream"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream: dekd.v1.OpenStream.$Shape; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "verifyHmac"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac: dekd.v1.VerifyHmac.$Shape; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "hmacMany"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany: dekd.v1.Many.$Shape; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "verifyHmacMany"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany: dekd.v1.Many.$Shape; roots?: null; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "roots"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots: dekd.v1.Roots.$Shape; rights?: null; openLegacy?: null; migrateLegacy?: null }|{ operation?: "rights"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights: dekd.v1.Rights.$Shape; openLegacy?: null; migrateLegacy?: null }|{ operation?: "openLegacy"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy: dekd.v1.Many.$Shape; migrateLegacy?: null }|{ operation?: "migrateLegacy"; hello?: null; cancel?: null; ping?: null; keyInfo?: null; admin?: null; encrypt?: null; decrypt?: null; reencrypt?: null; encryptMany?: null; decryptMany?: null; reencryptMany?: null; encryptStream?: null; decryptStream?: null; streamPart?: null; laneEncrypt?: null; laneDecrypt?: null; fileEncrypt?: null; fileDecrypt?: null; hmac?: null; blindIndex?: null; reencryptStream?: null; verifyHmac?: null; hmacMany?: null; verifyHmacMany?: null; roots?: null; rights?: null; openLegacy?: null; migrateLegacy: dekd.v1.Many.$Shape })
            );
        }

        /**
         * Properties of a Reply.
         * @deprecated Use dekd.v1.Reply.$Properties instead.
         */
        interface IReply extends dekd.v1.Reply.$Properties {
        }

        /** Represents a Reply. */
        class Reply {

            /**
             * Constructs a new Reply.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Reply.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Reply id. */
            id: number;

            /** Reply error. */
            error?: (dekd.v1.Error.$Properties|null);

            /** Reply hello. */
            hello?: (dekd.v1.HelloReply.$Properties|null);

            /** Reply document. */
            document?: (Uint8Array|null);

            /** Reply stream. */
            stream?: (dekd.v1.StreamPart.$Properties|null);

            /** Reply many. */
            many?: (dekd.v1.ManyReply.$Properties|null);

            /** Reply value. */
            value?: (Uint8Array|null);

            /** Reply lane. */
            lane?: (dekd.v1.LaneReply.$Properties|null);

            /** Reply laneResult. */
            laneResult?: (dekd.v1.LaneResult.$Properties|null);

            /** Reply result. */
            result?: ("error"|"hello"|"document"|"stream"|"many"|"value"|"lane"|"laneResult");

            /**
             * Encodes the specified Reply message. Does not implicitly {@link dekd.v1.Reply.verify|verify} messages.
             * @param message Reply message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Reply.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Reply message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Reply & dekd.v1.Reply.$Shape} Reply
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Reply & dekd.v1.Reply.$Shape;
        }

        namespace Reply {

            /** Properties of a Reply. */
            interface $Properties {

                /** Reply id */
                id?: (number|null);

                /** Reply error */
                error?: (dekd.v1.Error.$Properties|null);

                /** Reply hello */
                hello?: (dekd.v1.HelloReply.$Properties|null);

                /** Reply document */
                document?: (Uint8Array|null);

                /** Reply stream */
                stream?: (dekd.v1.StreamPart.$Properties|null);

                /** Reply many */
                many?: (dekd.v1.ManyReply.$Properties|null);

                /** Reply value */
                value?: (Uint8Array|null);

                /** Reply lane */
                lane?: (dekd.v1.LaneReply.$Properties|null);

                /** Reply laneResult */
                laneResult?: (dekd.v1.LaneResult.$Properties|null);

                /** Reply result */
                result?: ("error"|"hello"|"document"|"stream"|"many"|"value"|"lane"|"laneResult");

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Narrowed shape of a Reply. */
            type $Shape = {
              id?: number|null;
              error?: dekd.v1.Error.$Shape|null;
              hello?: dekd.v1.HelloReply.$Shape|null;
              document?: Uint8Array|null;
              stream?: dekd.v1.StreamPart.$Shape|null;
              many?: dekd.v1.ManyReply.$Shape|null;
              value?: Uint8Array|null;
              lane?: dekd.v1.LaneReply.$Shape|null;
              laneResult?: dekd.v1.LaneResult.$Shape|null;
              $unknowns?: Uint8Array[];
            } & (
              ({ result?: undefined; error?: null; hello?: null; document?: null; stream?: null; many?: null; value?: null; lane?: null; laneResult?: null }|{ result?: "error"; error: dekd.v1.Error.$Shape; hello?: null; document?: null; stream?: null; many?: null; value?: null; lane?: null; laneResult?: null }|{ result?: "hello"; error?: null; hello: dekd.v1.HelloReply.$Shape; document?: null; stream?: null; many?: null; value?: null; lane?: null; laneResult?: null }|{ result?: "document"; error?: null; hello?: null; document: Uint8Array; stream?: null; many?: null; value?: null; lane?: null; laneResult?: null }|{ result?: "stream"; error?: null; hello?: null; document?: null; stream: dekd.v1.StreamPart.$Shape; many?: null; value?: null; lane?: null; laneResult?: null }|{ result?: "many"; error?: null; hello?: null; document?: null; stream?: null; many: dekd.v1.ManyReply.$Shape; value?: null; lane?: null; laneResult?: null }|{ result?: "value"; error?: null; hello?: null; document?: null; stream?: null; many?: null; value: Uint8Array; lane?: null; laneResult?: null }|{ result?: "lane"; error?: null; hello?: null; document?: null; stream?: null; many?: null; value?: null; lane: dekd.v1.LaneReply.$Shape; laneResult?: null }|{ result?: "laneResult"; error?: null; hello?: null; document?: null; stream?: null; many?: null; value?: null; lane?: null; laneResult: dekd.v1.LaneResult.$Shape })
            );
        }

        /**
         * Properties of a Hello.
         * @deprecated Use dekd.v1.Hello.$Properties instead.
         */
        interface IHello extends dekd.v1.Hello.$Properties {
        }

        /** Represents a Hello. */
        class Hello {

            /**
             * Constructs a new Hello.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Hello.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Hello minVersion. */
            minVersion: number;

            /** Hello maxVersion. */
            maxVersion: number;

            /** Hello client. */
            client: string;

            /** Hello token. */
            token: Uint8Array;

            /**
             * Encodes the specified Hello message. Does not implicitly {@link dekd.v1.Hello.verify|verify} messages.
             * @param message Hello message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Hello.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Hello message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Hello & dekd.v1.Hello.$Shape} Hello
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Hello & dekd.v1.Hello.$Shape;
        }

        namespace Hello {

            /** Properties of a Hello. */
            interface $Properties {

                /** Hello minVersion */
                minVersion?: (number|null);

                /** Hello maxVersion */
                maxVersion?: (number|null);

                /** Hello client */
                client?: (string|null);

                /** Hello token */
                token?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Hello. */
            type $Shape = dekd.v1.Hello.$Properties;
        }

        /**
         * Properties of a HelloReply.
         * @deprecated Use dekd.v1.HelloReply.$Properties instead.
         */
        interface IHelloReply extends dekd.v1.HelloReply.$Properties {
        }

        /** Represents a HelloReply. */
        class HelloReply {

            /**
             * Constructs a new HelloReply.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.HelloReply.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** HelloReply version. */
            version: number;

            /** HelloReply maxPayload. */
            maxPayload: number;

            /** HelloReply maxFrame. */
            maxFrame: number;

            /** HelloReply maxInFlight. */
            maxInFlight: number;

            /** HelloReply engine. */
            engine: string;

            /** HelloReply lockLevel. */
            lockLevel: string;

            /** HelloReply agent. */
            agent: string;

            /** HelloReply laneToken. */
            laneToken: Uint8Array;

            /** HelloReply laneMaxPayload. */
            laneMaxPayload: number;

            /** HelloReply laneRegionLimit. */
            laneRegionLimit: number;

            /** HelloReply laneSocket. */
            laneSocket: string;

            /** HelloReply choosesRoots. */
            choosesRoots: boolean;

            /**
             * Encodes the specified HelloReply message. Does not implicitly {@link dekd.v1.HelloReply.verify|verify} messages.
             * @param message HelloReply message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.HelloReply.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a HelloReply message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.HelloReply & dekd.v1.HelloReply.$Shape} HelloReply
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.HelloReply & dekd.v1.HelloReply.$Shape;
        }

        namespace HelloReply {

            /** Properties of a HelloReply. */
            interface $Properties {

                /** HelloReply version */
                version?: (number|null);

                /** HelloReply maxPayload */
                maxPayload?: (number|null);

                /** HelloReply maxFrame */
                maxFrame?: (number|null);

                /** HelloReply maxInFlight */
                maxInFlight?: (number|null);

                /** HelloReply engine */
                engine?: (string|null);

                /** HelloReply lockLevel */
                lockLevel?: (string|null);

                /** HelloReply agent */
                agent?: (string|null);

                /** HelloReply laneToken */
                laneToken?: (Uint8Array|null);

                /** HelloReply laneMaxPayload */
                laneMaxPayload?: (number|null);

                /** HelloReply laneRegionLimit */
                laneRegionLimit?: (number|null);

                /** HelloReply laneSocket */
                laneSocket?: (string|null);

                /** HelloReply choosesRoots */
                choosesRoots?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a HelloReply. */
            type $Shape = dekd.v1.HelloReply.$Properties;
        }

        /**
         * Properties of a Cancel.
         * @deprecated Use dekd.v1.Cancel.$Properties instead.
         */
        interface ICancel extends dekd.v1.Cancel.$Properties {
        }

        /** Represents a Cancel. */
        class Cancel {

            /**
             * Constructs a new Cancel.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Cancel.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Cancel id. */
            id: number;

            /**
             * Encodes the specified Cancel message. Does not implicitly {@link dekd.v1.Cancel.verify|verify} messages.
             * @param message Cancel message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Cancel.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Cancel message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Cancel & dekd.v1.Cancel.$Shape} Cancel
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Cancel & dekd.v1.Cancel.$Shape;
        }

        namespace Cancel {

            /** Properties of a Cancel. */
            interface $Properties {

                /** Cancel id */
                id?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Cancel. */
            type $Shape = dekd.v1.Cancel.$Properties;
        }

        /**
         * Properties of a Ping.
         * @deprecated Use dekd.v1.Ping.$Properties instead.
         */
        interface IPing extends dekd.v1.Ping.$Properties {
        }

        /** Represents a Ping. */
        class Ping {

            /**
             * Constructs a new Ping.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Ping.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /**
             * Encodes the specified Ping message. Does not implicitly {@link dekd.v1.Ping.verify|verify} messages.
             * @param message Ping message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Ping.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Ping message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Ping & dekd.v1.Ping.$Shape} Ping
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Ping & dekd.v1.Ping.$Shape;
        }

        namespace Ping {

            /** Properties of a Ping. */
            interface $Properties {

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Ping. */
            type $Shape = dekd.v1.Ping.$Properties;
        }

        /**
         * Properties of a KeyInfo.
         * @deprecated Use dekd.v1.KeyInfo.$Properties instead.
         */
        interface IKeyInfo extends dekd.v1.KeyInfo.$Properties {
        }

        /** Represents a KeyInfo. */
        class KeyInfo {

            /**
             * Constructs a new KeyInfo.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.KeyInfo.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** KeyInfo key. */
            key: string;

            /** KeyInfo partition. */
            partition: string;

            /**
             * Encodes the specified KeyInfo message. Does not implicitly {@link dekd.v1.KeyInfo.verify|verify} messages.
             * @param message KeyInfo message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.KeyInfo.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a KeyInfo message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.KeyInfo & dekd.v1.KeyInfo.$Shape} KeyInfo
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.KeyInfo & dekd.v1.KeyInfo.$Shape;
        }

        namespace KeyInfo {

            /** Properties of a KeyInfo. */
            interface $Properties {

                /** KeyInfo key */
                key?: (string|null);

                /** KeyInfo partition */
                partition?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a KeyInfo. */
            type $Shape = dekd.v1.KeyInfo.$Properties;
        }

        /**
         * Properties of a Roots.
         * @deprecated Use dekd.v1.Roots.$Properties instead.
         */
        interface IRoots extends dekd.v1.Roots.$Properties {
        }

        /** Represents a Roots. */
        class Roots {

            /**
             * Constructs a new Roots.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Roots.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Roots key. */
            key: string;

            /** Roots partition. */
            partition: string;

            /**
             * Encodes the specified Roots message. Does not implicitly {@link dekd.v1.Roots.verify|verify} messages.
             * @param message Roots message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Roots.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Roots message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Roots & dekd.v1.Roots.$Shape} Roots
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Roots & dekd.v1.Roots.$Shape;
        }

        namespace Roots {

            /** Properties of a Roots. */
            interface $Properties {

                /** Roots key */
                key?: (string|null);

                /** Roots partition */
                partition?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Roots. */
            type $Shape = dekd.v1.Roots.$Properties;
        }

        /**
         * Properties of a Rights.
         * @deprecated Use dekd.v1.Rights.$Properties instead.
         */
        interface IRights extends dekd.v1.Rights.$Properties {
        }

        /** Represents a Rights. */
        class Rights {

            /**
             * Constructs a new Rights.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Rights.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Rights key. */
            key: string;

            /** Rights partition. */
            partition: string;

            /**
             * Encodes the specified Rights message. Does not implicitly {@link dekd.v1.Rights.verify|verify} messages.
             * @param message Rights message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Rights.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Rights message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Rights & dekd.v1.Rights.$Shape} Rights
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Rights & dekd.v1.Rights.$Shape;
        }

        namespace Rights {

            /** Properties of a Rights. */
            interface $Properties {

                /** Rights key */
                key?: (string|null);

                /** Rights partition */
                partition?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Rights. */
            type $Shape = dekd.v1.Rights.$Properties;
        }

        /**
         * Properties of an Encrypt.
         * @deprecated Use dekd.v1.Encrypt.$Properties instead.
         */
        interface IEncrypt extends dekd.v1.Encrypt.$Properties {
        }

        /** Represents an Encrypt. */
        class Encrypt {

            /**
             * Constructs a new Encrypt.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Encrypt.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Encrypt key. */
            key: string;

            /** Encrypt partition. */
            partition: string;

            /** Encrypt context. */
            context: Uint8Array;

            /** Encrypt root. */
            root: string;

            /** Encrypt data. */
            data: Uint8Array;

            /**
             * Encodes the specified Encrypt message. Does not implicitly {@link dekd.v1.Encrypt.verify|verify} messages.
             * @param message Encrypt message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Encrypt.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an Encrypt message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Encrypt & dekd.v1.Encrypt.$Shape} Encrypt
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Encrypt & dekd.v1.Encrypt.$Shape;
        }

        namespace Encrypt {

            /** Properties of an Encrypt. */
            interface $Properties {

                /** Encrypt key */
                key?: (string|null);

                /** Encrypt partition */
                partition?: (string|null);

                /** Encrypt context */
                context?: (Uint8Array|null);

                /** Encrypt root */
                root?: (string|null);

                /** Encrypt data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an Encrypt. */
            type $Shape = dekd.v1.Encrypt.$Properties;
        }

        /**
         * Properties of a Decrypt.
         * @deprecated Use dekd.v1.Decrypt.$Properties instead.
         */
        interface IDecrypt extends dekd.v1.Decrypt.$Properties {
        }

        /** Represents a Decrypt. */
        class Decrypt {

            /**
             * Constructs a new Decrypt.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Decrypt.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Decrypt key. */
            key: string;

            /** Decrypt partition. */
            partition: string;

            /** Decrypt context. */
            context: Uint8Array;

            /** Decrypt anyKey. */
            anyKey: boolean;

            /** Decrypt data. */
            data: Uint8Array;

            /**
             * Encodes the specified Decrypt message. Does not implicitly {@link dekd.v1.Decrypt.verify|verify} messages.
             * @param message Decrypt message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Decrypt.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Decrypt message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Decrypt & dekd.v1.Decrypt.$Shape} Decrypt
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Decrypt & dekd.v1.Decrypt.$Shape;
        }

        namespace Decrypt {

            /** Properties of a Decrypt. */
            interface $Properties {

                /** Decrypt key */
                key?: (string|null);

                /** Decrypt partition */
                partition?: (string|null);

                /** Decrypt context */
                context?: (Uint8Array|null);

                /** Decrypt anyKey */
                anyKey?: (boolean|null);

                /** Decrypt data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Decrypt. */
            type $Shape = dekd.v1.Decrypt.$Properties;
        }

        /**
         * Properties of a Reencrypt.
         * @deprecated Use dekd.v1.Reencrypt.$Properties instead.
         */
        interface IReencrypt extends dekd.v1.Reencrypt.$Properties {
        }

        /** Represents a Reencrypt. */
        class Reencrypt {

            /**
             * Constructs a new Reencrypt.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Reencrypt.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Reencrypt key. */
            key: string;

            /** Reencrypt partition. */
            partition: string;

            /** Reencrypt context. */
            context: Uint8Array;

            /** Reencrypt root. */
            root: string;

            /** Reencrypt data. */
            data: Uint8Array;

            /**
             * Encodes the specified Reencrypt message. Does not implicitly {@link dekd.v1.Reencrypt.verify|verify} messages.
             * @param message Reencrypt message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Reencrypt.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Reencrypt message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Reencrypt & dekd.v1.Reencrypt.$Shape} Reencrypt
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Reencrypt & dekd.v1.Reencrypt.$Shape;
        }

        namespace Reencrypt {

            /** Properties of a Reencrypt. */
            interface $Properties {

                /** Reencrypt key */
                key?: (string|null);

                /** Reencrypt partition */
                partition?: (string|null);

                /** Reencrypt context */
                context?: (Uint8Array|null);

                /** Reencrypt root */
                root?: (string|null);

                /** Reencrypt data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Reencrypt. */
            type $Shape = dekd.v1.Reencrypt.$Properties;
        }

        /**
         * Properties of a Hmac.
         * @deprecated Use dekd.v1.Hmac.$Properties instead.
         */
        interface IHmac extends dekd.v1.Hmac.$Properties {
        }

        /** Represents a Hmac. */
        class Hmac {

            /**
             * Constructs a new Hmac.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Hmac.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Hmac key. */
            key: string;

            /** Hmac partition. */
            partition: string;

            /** Hmac context. */
            context: Uint8Array;

            /** Hmac data. */
            data: Uint8Array;

            /**
             * Encodes the specified Hmac message. Does not implicitly {@link dekd.v1.Hmac.verify|verify} messages.
             * @param message Hmac message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Hmac.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Hmac message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Hmac & dekd.v1.Hmac.$Shape} Hmac
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Hmac & dekd.v1.Hmac.$Shape;
        }

        namespace Hmac {

            /** Properties of a Hmac. */
            interface $Properties {

                /** Hmac key */
                key?: (string|null);

                /** Hmac partition */
                partition?: (string|null);

                /** Hmac context */
                context?: (Uint8Array|null);

                /** Hmac data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Hmac. */
            type $Shape = dekd.v1.Hmac.$Properties;
        }

        /**
         * Properties of a VerifyHmac.
         * @deprecated Use dekd.v1.VerifyHmac.$Properties instead.
         */
        interface IVerifyHmac extends dekd.v1.VerifyHmac.$Properties {
        }

        /** Represents a VerifyHmac. */
        class VerifyHmac {

            /**
             * Constructs a new VerifyHmac.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.VerifyHmac.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** VerifyHmac key. */
            key: string;

            /** VerifyHmac partition. */
            partition: string;

            /** VerifyHmac context. */
            context: Uint8Array;

            /** VerifyHmac mac. */
            mac: Uint8Array;

            /** VerifyHmac data. */
            data: Uint8Array;

            /**
             * Encodes the specified VerifyHmac message. Does not implicitly {@link dekd.v1.VerifyHmac.verify|verify} messages.
             * @param message VerifyHmac message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.VerifyHmac.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a VerifyHmac message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.VerifyHmac & dekd.v1.VerifyHmac.$Shape} VerifyHmac
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.VerifyHmac & dekd.v1.VerifyHmac.$Shape;
        }

        namespace VerifyHmac {

            /** Properties of a VerifyHmac. */
            interface $Properties {

                /** VerifyHmac key */
                key?: (string|null);

                /** VerifyHmac partition */
                partition?: (string|null);

                /** VerifyHmac context */
                context?: (Uint8Array|null);

                /** VerifyHmac mac */
                mac?: (Uint8Array|null);

                /** VerifyHmac data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a VerifyHmac. */
            type $Shape = dekd.v1.VerifyHmac.$Properties;
        }

        /**
         * Properties of a BlindIndex.
         * @deprecated Use dekd.v1.BlindIndex.$Properties instead.
         */
        interface IBlindIndex extends dekd.v1.BlindIndex.$Properties {
        }

        /** Represents a BlindIndex. */
        class BlindIndex {

            /**
             * Constructs a new BlindIndex.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.BlindIndex.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** BlindIndex key. */
            key: string;

            /** BlindIndex partition. */
            partition: string;

            /** BlindIndex table. */
            table: string;

            /** BlindIndex column. */
            column: string;

            /** BlindIndex fingerprint. */
            fingerprint: boolean;

            /** BlindIndex items. */
            items: dekd.v1.Item.$Properties[];

            /**
             * Encodes the specified BlindIndex message. Does not implicitly {@link dekd.v1.BlindIndex.verify|verify} messages.
             * @param message BlindIndex message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.BlindIndex.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a BlindIndex message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.BlindIndex & dekd.v1.BlindIndex.$Shape} BlindIndex
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.BlindIndex & dekd.v1.BlindIndex.$Shape;
        }

        namespace BlindIndex {

            /** Properties of a BlindIndex. */
            interface $Properties {

                /** BlindIndex key */
                key?: (string|null);

                /** BlindIndex partition */
                partition?: (string|null);

                /** BlindIndex table */
                table?: (string|null);

                /** BlindIndex column */
                column?: (string|null);

                /** BlindIndex fingerprint */
                fingerprint?: (boolean|null);

                /** BlindIndex items */
                items?: (dekd.v1.Item.$Properties[]|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a BlindIndex. */
            type $Shape = dekd.v1.BlindIndex.$Properties;
        }

        /**
         * Properties of a Many.
         * @deprecated Use dekd.v1.Many.$Properties instead.
         */
        interface IMany extends dekd.v1.Many.$Properties {
        }

        /** Represents a Many. */
        class Many {

            /**
             * Constructs a new Many.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Many.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Many key. */
            key: string;

            /** Many partition. */
            partition: string;

            /** Many context. */
            context: Uint8Array;

            /** Many anyKey. */
            anyKey: boolean;

            /** Many root. */
            root: string;

            /** Many items. */
            items: dekd.v1.Item.$Properties[];

            /**
             * Encodes the specified Many message. Does not implicitly {@link dekd.v1.Many.verify|verify} messages.
             * @param message Many message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Many.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a Many message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Many & dekd.v1.Many.$Shape} Many
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Many & dekd.v1.Many.$Shape;
        }

        namespace Many {

            /** Properties of a Many. */
            interface $Properties {

                /** Many key */
                key?: (string|null);

                /** Many partition */
                partition?: (string|null);

                /** Many context */
                context?: (Uint8Array|null);

                /** Many anyKey */
                anyKey?: (boolean|null);

                /** Many root */
                root?: (string|null);

                /** Many items */
                items?: (dekd.v1.Item.$Properties[]|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a Many. */
            type $Shape = dekd.v1.Many.$Properties;
        }

        /**
         * Properties of an Item.
         * @deprecated Use dekd.v1.Item.$Properties instead.
         */
        interface IItem extends dekd.v1.Item.$Properties {
        }

        /** Represents an Item. */
        class Item {

            /**
             * Constructs a new Item.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Item.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Item key. */
            key?: (string|null);

            /** Item partition. */
            partition?: (string|null);

            /** Item context. */
            context?: (Uint8Array|null);

            /** Item mac. */
            mac: Uint8Array;

            /** Item root. */
            root?: (string|null);

            /** Item data. */
            data: Uint8Array;

            /**
             * Encodes the specified Item message. Does not implicitly {@link dekd.v1.Item.verify|verify} messages.
             * @param message Item message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Item.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an Item message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Item & dekd.v1.Item.$Shape} Item
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Item & dekd.v1.Item.$Shape;
        }

        namespace Item {

            /** Properties of an Item. */
            interface $Properties {

                /** Item key */
                key?: (string|null);

                /** Item partition */
                partition?: (string|null);

                /** Item context */
                context?: (Uint8Array|null);

                /** Item mac */
                mac?: (Uint8Array|null);

                /** Item root */
                root?: (string|null);

                /** Item data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an Item. */
            type $Shape = dekd.v1.Item.$Properties;
        }

        /**
         * Properties of an OpenStream.
         * @deprecated Use dekd.v1.OpenStream.$Properties instead.
         */
        interface IOpenStream extends dekd.v1.OpenStream.$Properties {
        }

        /** Represents an OpenStream. */
        class OpenStream {

            /**
             * Constructs a new OpenStream.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.OpenStream.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** OpenStream key. */
            key: string;

            /** OpenStream partition. */
            partition: string;

            /** OpenStream context. */
            context: Uint8Array;

            /** OpenStream anyKey. */
            anyKey: boolean;

            /** OpenStream frameLength. */
            frameLength: number;

            /** OpenStream credit. */
            credit: number;

            /** OpenStream compression. */
            compression: number;

            /** OpenStream content. */
            content: number;

            /** OpenStream firstFrame. */
            firstFrame: number;

            /** OpenStream frames. */
            frames: number;

            /** OpenStream root. */
            root: string;

            /**
             * Encodes the specified OpenStream message. Does not implicitly {@link dekd.v1.OpenStream.verify|verify} messages.
             * @param message OpenStream message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.OpenStream.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an OpenStream message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.OpenStream & dekd.v1.OpenStream.$Shape} OpenStream
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.OpenStream & dekd.v1.OpenStream.$Shape;
        }

        namespace OpenStream {

            /** Properties of an OpenStream. */
            interface $Properties {

                /** OpenStream key */
                key?: (string|null);

                /** OpenStream partition */
                partition?: (string|null);

                /** OpenStream context */
                context?: (Uint8Array|null);

                /** OpenStream anyKey */
                anyKey?: (boolean|null);

                /** OpenStream frameLength */
                frameLength?: (number|null);

                /** OpenStream credit */
                credit?: (number|null);

                /** OpenStream compression */
                compression?: (number|null);

                /** OpenStream content */
                content?: (number|null);

                /** OpenStream firstFrame */
                firstFrame?: (number|null);

                /** OpenStream frames */
                frames?: (number|null);

                /** OpenStream root */
                root?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an OpenStream. */
            type $Shape = dekd.v1.OpenStream.$Properties;
        }

        /**
         * Properties of a StreamPart.
         * @deprecated Use dekd.v1.StreamPart.$Properties instead.
         */
        interface IStreamPart extends dekd.v1.StreamPart.$Properties {
        }

        /** Represents a StreamPart. */
        class StreamPart {

            /**
             * Constructs a new StreamPart.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.StreamPart.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** StreamPart credit. */
            credit: number;

            /** StreamPart end. */
            end: boolean;

            /** StreamPart data. */
            data: Uint8Array;

            /**
             * Encodes the specified StreamPart message. Does not implicitly {@link dekd.v1.StreamPart.verify|verify} messages.
             * @param message StreamPart message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.StreamPart.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a StreamPart message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.StreamPart & dekd.v1.StreamPart.$Shape} StreamPart
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.StreamPart & dekd.v1.StreamPart.$Shape;
        }

        namespace StreamPart {

            /** Properties of a StreamPart. */
            interface $Properties {

                /** StreamPart credit */
                credit?: (number|null);

                /** StreamPart end */
                end?: (boolean|null);

                /** StreamPart data */
                data?: (Uint8Array|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a StreamPart. */
            type $Shape = dekd.v1.StreamPart.$Properties;
        }

        /**
         * Properties of a LaneReply.
         * @deprecated Use dekd.v1.LaneReply.$Properties instead.
         */
        interface ILaneReply extends dekd.v1.LaneReply.$Properties {
        }

        /** Represents a LaneReply. */
        class LaneReply {

            /**
             * Constructs a new LaneReply.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.LaneReply.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** LaneReply handle. */
            handle: number;

            /** LaneReply token. */
            token: Uint8Array;

            /** LaneReply error. */
            error?: (dekd.v1.Error.$Properties|null);

            /**
             * Encodes the specified LaneReply message. Does not implicitly {@link dekd.v1.LaneReply.verify|verify} messages.
             * @param message LaneReply message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.LaneReply.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a LaneReply message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.LaneReply & dekd.v1.LaneReply.$Shape} LaneReply
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.LaneReply & dekd.v1.LaneReply.$Shape;
        }

        namespace LaneReply {

            /** Properties of a LaneReply. */
            interface $Properties {

                /** LaneReply handle */
                handle?: (number|null);

                /** LaneReply token */
                token?: (Uint8Array|null);

                /** LaneReply error */
                error?: (dekd.v1.Error.$Properties|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a LaneReply. */
            type $Shape = dekd.v1.LaneReply.$Properties;
        }

        /**
         * Properties of a LaneCall.
         * @deprecated Use dekd.v1.LaneCall.$Properties instead.
         */
        interface ILaneCall extends dekd.v1.LaneCall.$Properties {
        }

        /** Represents a LaneCall. */
        class LaneCall {

            /**
             * Constructs a new LaneCall.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.LaneCall.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** LaneCall key. */
            key: string;

            /** LaneCall partition. */
            partition: string;

            /** LaneCall context. */
            context: Uint8Array;

            /** LaneCall anyKey. */
            anyKey: boolean;

            /** LaneCall input. */
            input?: (dekd.v1.LaneRange.$Properties|null);

            /** LaneCall result. */
            result?: (dekd.v1.LaneRange.$Properties|null);

            /** LaneCall root. */
            root: string;

            /**
             * Encodes the specified LaneCall message. Does not implicitly {@link dekd.v1.LaneCall.verify|verify} messages.
             * @param message LaneCall message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.LaneCall.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a LaneCall message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.LaneCall & dekd.v1.LaneCall.$Shape} LaneCall
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.LaneCall & dekd.v1.LaneCall.$Shape;
        }

        namespace LaneCall {

            /** Properties of a LaneCall. */
            interface $Properties {

                /** LaneCall key */
                key?: (string|null);

                /** LaneCall partition */
                partition?: (string|null);

                /** LaneCall context */
                context?: (Uint8Array|null);

                /** LaneCall anyKey */
                anyKey?: (boolean|null);

                /** LaneCall input */
                input?: (dekd.v1.LaneRange.$Properties|null);

                /** LaneCall result */
                result?: (dekd.v1.LaneRange.$Properties|null);

                /** LaneCall root */
                root?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a LaneCall. */
            type $Shape = dekd.v1.LaneCall.$Properties;
        }

        /**
         * Properties of a LaneRange.
         * @deprecated Use dekd.v1.LaneRange.$Properties instead.
         */
        interface ILaneRange extends dekd.v1.LaneRange.$Properties {
        }

        /** Represents a LaneRange. */
        class LaneRange {

            /**
             * Constructs a new LaneRange.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.LaneRange.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** LaneRange handle. */
            handle: number;

            /** LaneRange offset. */
            offset: number;

            /** LaneRange length. */
            length: number;

            /**
             * Encodes the specified LaneRange message. Does not implicitly {@link dekd.v1.LaneRange.verify|verify} messages.
             * @param message LaneRange message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.LaneRange.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a LaneRange message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.LaneRange & dekd.v1.LaneRange.$Shape} LaneRange
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.LaneRange & dekd.v1.LaneRange.$Shape;
        }

        namespace LaneRange {

            /** Properties of a LaneRange. */
            interface $Properties {

                /** LaneRange handle */
                handle?: (number|null);

                /** LaneRange offset */
                offset?: (number|null);

                /** LaneRange length */
                length?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a LaneRange. */
            type $Shape = dekd.v1.LaneRange.$Properties;
        }

        /**
         * Properties of a FileCall.
         * @deprecated Use dekd.v1.FileCall.$Properties instead.
         */
        interface IFileCall extends dekd.v1.FileCall.$Properties {
        }

        /** Represents a FileCall. */
        class FileCall {

            /**
             * Constructs a new FileCall.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.FileCall.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** FileCall key. */
            key: string;

            /** FileCall partition. */
            partition: string;

            /** FileCall context. */
            context: Uint8Array;

            /** FileCall anyKey. */
            anyKey: boolean;

            /** FileCall frameLength. */
            frameLength: number;

            /** FileCall handle. */
            handle: number;

            /** FileCall root. */
            root: string;

            /**
             * Encodes the specified FileCall message. Does not implicitly {@link dekd.v1.FileCall.verify|verify} messages.
             * @param message FileCall message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.FileCall.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a FileCall message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.FileCall & dekd.v1.FileCall.$Shape} FileCall
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.FileCall & dekd.v1.FileCall.$Shape;
        }

        namespace FileCall {

            /** Properties of a FileCall. */
            interface $Properties {

                /** FileCall key */
                key?: (string|null);

                /** FileCall partition */
                partition?: (string|null);

                /** FileCall context */
                context?: (Uint8Array|null);

                /** FileCall anyKey */
                anyKey?: (boolean|null);

                /** FileCall frameLength */
                frameLength?: (number|null);

                /** FileCall handle */
                handle?: (number|null);

                /** FileCall root */
                root?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a FileCall. */
            type $Shape = dekd.v1.FileCall.$Properties;
        }

        /**
         * Properties of a LaneResult.
         * @deprecated Use dekd.v1.LaneResult.$Properties instead.
         */
        interface ILaneResult extends dekd.v1.LaneResult.$Properties {
        }

        /** Represents a LaneResult. */
        class LaneResult {

            /**
             * Constructs a new LaneResult.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.LaneResult.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** LaneResult length. */
            length: number;

            /**
             * Encodes the specified LaneResult message. Does not implicitly {@link dekd.v1.LaneResult.verify|verify} messages.
             * @param message LaneResult message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.LaneResult.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a LaneResult message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.LaneResult & dekd.v1.LaneResult.$Shape} LaneResult
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.LaneResult & dekd.v1.LaneResult.$Shape;
        }

        namespace LaneResult {

            /** Properties of a LaneResult. */
            interface $Properties {

                /** LaneResult length */
                length?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a LaneResult. */
            type $Shape = dekd.v1.LaneResult.$Properties;
        }

        /**
         * Properties of a ManyReply.
         * @deprecated Use dekd.v1.ManyReply.$Properties instead.
         */
        interface IManyReply extends dekd.v1.ManyReply.$Properties {
        }

        /** Represents a ManyReply. */
        class ManyReply {

            /**
             * Constructs a new ManyReply.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ManyReply.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ManyReply values. */
            values: Uint8Array[];

            /** ManyReply errors. */
            errors: dekd.v1.ItemError.$Properties[];

            /**
             * Encodes the specified ManyReply message. Does not implicitly {@link dekd.v1.ManyReply.verify|verify} messages.
             * @param message ManyReply message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ManyReply.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a ManyReply message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ManyReply & dekd.v1.ManyReply.$Shape} ManyReply
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ManyReply & dekd.v1.ManyReply.$Shape;
        }

        namespace ManyReply {

            /** Properties of a ManyReply. */
            interface $Properties {

                /** ManyReply values */
                values?: (Uint8Array[]|null);

                /** ManyReply errors */
                errors?: (dekd.v1.ItemError.$Properties[]|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a ManyReply. */
            type $Shape = dekd.v1.ManyReply.$Properties;
        }

        /**
         * Properties of an ItemError.
         * @deprecated Use dekd.v1.ItemError.$Properties instead.
         */
        interface IItemError extends dekd.v1.ItemError.$Properties {
        }

        /** Represents an ItemError. */
        class ItemError {

            /**
             * Constructs a new ItemError.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ItemError.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ItemError index. */
            index: number;

            /** ItemError error. */
            error?: (dekd.v1.Error.$Properties|null);

            /**
             * Encodes the specified ItemError message. Does not implicitly {@link dekd.v1.ItemError.verify|verify} messages.
             * @param message ItemError message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ItemError.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an ItemError message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ItemError & dekd.v1.ItemError.$Shape} ItemError
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ItemError & dekd.v1.ItemError.$Shape;
        }

        namespace ItemError {

            /** Properties of an ItemError. */
            interface $Properties {

                /** ItemError index */
                index?: (number|null);

                /** ItemError error */
                error?: (dekd.v1.Error.$Properties|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an ItemError. */
            type $Shape = dekd.v1.ItemError.$Properties;
        }

        /**
         * Properties of an Error.
         * @deprecated Use dekd.v1.Error.$Properties instead.
         */
        interface IError extends dekd.v1.Error.$Properties {
        }

        /** Represents an Error. */
        class Error {

            /**
             * Constructs a new Error.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Error.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Error code. */
            code: number;

            /** Error message. */
            message: string;

            /** Error incident. */
            incident: string;

            /** Error retryable. */
            retryable: boolean;

            /** Error retryAfterMs. */
            retryAfterMs: number;

            /**
             * Encodes the specified Error message. Does not implicitly {@link dekd.v1.Error.verify|verify} messages.
             * @param message Error message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Error.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an Error message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Error & dekd.v1.Error.$Shape} Error
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Error & dekd.v1.Error.$Shape;
        }

        namespace Error {

            /** Properties of an Error. */
            interface $Properties {

                /** Error code */
                code?: (number|null);

                /** Error message */
                message?: (string|null);

                /** Error incident */
                incident?: (string|null);

                /** Error retryable */
                retryable?: (boolean|null);

                /** Error retryAfterMs */
                retryAfterMs?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an Error. */
            type $Shape = dekd.v1.Error.$Properties;
        }

        /**
         * Properties of an Admin.
         * @deprecated Use dekd.v1.Admin.$Properties instead.
         */
        interface IAdmin extends dekd.v1.Admin.$Properties {
        }

        /** Represents an Admin. */
        class Admin {

            /**
             * Constructs a new Admin.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.Admin.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** Admin status. */
            status?: (dekd.v1.StatusCommand.$Properties|null);

            /** Admin why. */
            why?: (dekd.v1.WhyCommand.$Properties|null);

            /** Admin list. */
            list?: (dekd.v1.ListCommand.$Properties|null);

            /** Admin create. */
            create?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin rotate. */
            rotate?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin disable. */
            disable?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin enable. */
            enable?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin destroy. */
            destroy?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin compromise. */
            compromise?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin export. */
            export?: (dekd.v1.ExportCommand.$Properties|null);

            /** Admin import. */
            import?: (dekd.v1.ImportCommand.$Properties|null);

            /** Admin show. */
            show?: (dekd.v1.KeyCommand.$Properties|null);

            /** Admin prove. */
            prove?: (dekd.v1.ProveCommand.$Properties|null);

            /** Admin roots. */
            roots?: (dekd.v1.RootsCommand.$Properties|null);

            /** Admin rewrap. */
            rewrap?: (dekd.v1.RewrapCommand.$Properties|null);

            /** Admin tenant. */
            tenant?: (dekd.v1.TenantCommand.$Properties|null);

            /** Admin freeze. */
            freeze?: (dekd.v1.FreezeCommand.$Properties|null);

            /** Admin importKek. */
            importKek?: (dekd.v1.ImportKekCommand.$Properties|null);

            /** Admin keystores. */
            keystores?: (dekd.v1.KeystoresCommand.$Properties|null);

            /** Admin policy. */
            policy?: (dekd.v1.PolicyCommand.$Properties|null);

            /** Admin reload. */
            reload?: (dekd.v1.ReloadCommand.$Properties|null);

            /** Admin metrics. */
            metrics?: (dekd.v1.MetricsCommand.$Properties|null);

            /** Admin command. */
            command?: ("status"|"why"|"list"|"create"|"rotate"|"disable"|"enable"|"destroy"|"compromise"|"export"|"import"|"show"|"prove"|"roots"|"rewrap"|"tenant"|"freeze"|"importKek"|"keystores"|"policy"|"reload"|"metrics");

            /**
             * Encodes the specified Admin message. Does not implicitly {@link dekd.v1.Admin.verify|verify} messages.
             * @param message Admin message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.Admin.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an Admin message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.Admin & dekd.v1.Admin.$Shape} Admin
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.Admin & dekd.v1.Admin.$Shape;
        }

        namespace Admin {

            /** Properties of an Admin. */
            interface $Properties {

                /** Admin status */
                status?: (dekd.v1.StatusCommand.$Properties|null);

                /** Admin why */
                why?: (dekd.v1.WhyCommand.$Properties|null);

                /** Admin list */
                list?: (dekd.v1.ListCommand.$Properties|null);

                /** Admin create */
                create?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin rotate */
                rotate?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin disable */
                disable?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin enable */
                enable?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin destroy */
                destroy?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin compromise */
                compromise?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin export */
                "export"?: (dekd.v1.ExportCommand.$Properties|null);

                /** Admin import */
                "import"?: (dekd.v1.ImportCommand.$Properties|null);

                /** Admin show */
                show?: (dekd.v1.KeyCommand.$Properties|null);

                /** Admin prove */
                prove?: (dekd.v1.ProveCommand.$Properties|null);

                /** Admin roots */
                roots?: (dekd.v1.RootsCommand.$Properties|null);

                /** Admin rewrap */
                rewrap?: (dekd.v1.RewrapCommand.$Properties|null);

                /** Admin tenant */
                tenant?: (dekd.v1.TenantCommand.$Properties|null);

                /** Admin freeze */
                freeze?: (dekd.v1.FreezeCommand.$Properties|null);

                /** Admin importKek */
                importKek?: (dekd.v1.ImportKekCommand.$Properties|null);

                /** Admin keystores */
                keystores?: (dekd.v1.KeystoresCommand.$Properties|null);

                /** Admin policy */
                policy?: (dekd.v1.PolicyCommand.$Properties|null);

                /** Admin reload */
                reload?: (dekd.v1.ReloadCommand.$Properties|null);

                /** Admin metrics */
                metrics?: (dekd.v1.MetricsCommand.$Properties|null);

                /** Admin command */
                command?: ("status"|"why"|"list"|"create"|"rotate"|"disable"|"enable"|"destroy"|"compromise"|"export"|"import"|"show"|"prove"|"roots"|"rewrap"|"tenant"|"freeze"|"importKek"|"keystores"|"policy"|"reload"|"metrics");

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Narrowed shape of an Admin. */
            type $Shape = {
              status?: dekd.v1.StatusCommand.$Shape|null;
              why?: dekd.v1.WhyCommand.$Shape|null;
              list?: dekd.v1.ListCommand.$Shape|null;
              create?: dekd.v1.KeyCommand.$Shape|null;
              rotate?: dekd.v1.KeyCommand.$Shape|null;
              disable?: dekd.v1.KeyCommand.$Shape|null;
              enable?: dekd.v1.KeyCommand.$Shape|null;
              destroy?: dekd.v1.KeyCommand.$Shape|null;
              compromise?: dekd.v1.KeyCommand.$Shape|null;
              "export"?: dekd.v1.ExportCommand.$Shape|null;
              "import"?: dekd.v1.ImportCommand.$Shape|null;
              show?: dekd.v1.KeyCommand.$Shape|null;
              prove?: dekd.v1.ProveCommand.$Shape|null;
              roots?: dekd.v1.RootsCommand.$Shape|null;
              rewrap?: dekd.v1.RewrapCommand.$Shape|null;
              tenant?: dekd.v1.TenantCommand.$Shape|null;
              freeze?: dekd.v1.FreezeCommand.$Shape|null;
              importKek?: dekd.v1.ImportKekCommand.$Shape|null;
              keystores?: dekd.v1.KeystoresCommand.$Shape|null;
              policy?: dekd.v1.PolicyCommand.$Shape|null;
              reload?: dekd.v1.ReloadCommand.$Shape|null;
              metrics?: dekd.v1.MetricsCommand.$Shape|null;
              $unknowns?: Uint8Array[];
            } & (
              ({ command?: undefined; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "status"; status: dekd.v1.StatusCommand.$Shape; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "why"; status?: null; why: dekd.v1.WhyCommand.$Shape; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "list"; status?: null; why?: null; list: dekd.v1.ListCommand.$Shape; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "create"; status?: null; why?: null; list?: null; create: dekd.v1.KeyCommand.$Shape; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "rotate"; status?: null; why?: null; list?: null; create?: null; rotate: dekd.v1.KeyCommand.$Shape; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "disable"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable: dekd.v1.KeyCommand.$Shape; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "enable"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable: dekd.v1.KeyCommand.$Shape; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "destroy"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy: dekd.v1.KeyCommand.$Shape; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "compromise"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise: dekd.v1.KeyCommand.$Shape; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "export"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export": dekd.v1.ExportCommand.$Shape; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "import"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import": dekd.v1.ImportCommand.$Shape; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "show"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show: dekd.v1.KeyCommand.$Shape; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "prove"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove: dekd.v1.ProveCommand.$Shape; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "roots"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots: dekd.v1.RootsCommand.$Shape; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "rewrap"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap: dekd.v1.RewrapCommand.$Shape; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "tenant"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant: dekd.v1.TenantCommand.$Shape; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "freeze"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze: dekd.v1.FreezeCommand.$Shape; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "importKek"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek: dekd.v1.ImportKekCommand.$Shape; keystores?: null; policy?: null; reload?: null; metrics?: null }|{ command?: "keystores"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores: dekd.v1.KeystoresCommand.$Shape; policy?: null; reload?: null; metrics?: null }|{ command?: "policy"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy: dekd.v1.PolicyCommand.$Shape; reload?: null; metrics?: null }|{ command?: "reload"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload: dekd.v1.ReloadCommand.$Shape; metrics?: null }|{ command?: "metrics"; status?: null; why?: null; list?: null; create?: null; rotate?: null; disable?: null; enable?: null; destroy?: null; compromise?: null; "export"?: null; "import"?: null; show?: null; prove?: null; roots?: null; rewrap?: null; tenant?: null; freeze?: null; importKek?: null; keystores?: null; policy?: null; reload?: null; metrics: dekd.v1.MetricsCommand.$Shape })
            );
        }

        /**
         * Properties of a ReloadCommand.
         * @deprecated Use dekd.v1.ReloadCommand.$Properties instead.
         */
        interface IReloadCommand extends dekd.v1.ReloadCommand.$Properties {
        }

        /** Represents a ReloadCommand. */
        class ReloadCommand {

            /**
             * Constructs a new ReloadCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ReloadCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ReloadCommand dryRun. */
            dryRun: boolean;

            /**
             * Encodes the specified ReloadCommand message. Does not implicitly {@link dekd.v1.ReloadCommand.verify|verify} messages.
             * @param message ReloadCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ReloadCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a ReloadCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ReloadCommand & dekd.v1.ReloadCommand.$Shape} ReloadCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ReloadCommand & dekd.v1.ReloadCommand.$Shape;
        }

        namespace ReloadCommand {

            /** Properties of a ReloadCommand. */
            interface $Properties {

                /** ReloadCommand dryRun */
                dryRun?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a ReloadCommand. */
            type $Shape = dekd.v1.ReloadCommand.$Properties;
        }

        /**
         * Properties of a RootsCommand.
         * @deprecated Use dekd.v1.RootsCommand.$Properties instead.
         */
        interface IRootsCommand extends dekd.v1.RootsCommand.$Properties {
        }

        /** Represents a RootsCommand. */
        class RootsCommand {

            /**
             * Constructs a new RootsCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.RootsCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** RootsCommand action. */
            action: string;

            /** RootsCommand name. */
            name: string;

            /**
             * Encodes the specified RootsCommand message. Does not implicitly {@link dekd.v1.RootsCommand.verify|verify} messages.
             * @param message RootsCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.RootsCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a RootsCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.RootsCommand & dekd.v1.RootsCommand.$Shape} RootsCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.RootsCommand & dekd.v1.RootsCommand.$Shape;
        }

        namespace RootsCommand {

            /** Properties of a RootsCommand. */
            interface $Properties {

                /** RootsCommand action */
                action?: (string|null);

                /** RootsCommand name */
                name?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a RootsCommand. */
            type $Shape = dekd.v1.RootsCommand.$Properties;
        }

        /**
         * Properties of a RewrapCommand.
         * @deprecated Use dekd.v1.RewrapCommand.$Properties instead.
         */
        interface IRewrapCommand extends dekd.v1.RewrapCommand.$Properties {
        }

        /** Represents a RewrapCommand. */
        class RewrapCommand {

            /**
             * Constructs a new RewrapCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.RewrapCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** RewrapCommand from. */
            from: string;

            /** RewrapCommand to. */
            to: string;

            /** RewrapCommand name. */
            name: string;

            /** RewrapCommand partition. */
            partition: string;

            /** RewrapCommand cursor. */
            cursor: string;

            /** RewrapCommand limit. */
            limit: number;

            /** RewrapCommand dryRun. */
            dryRun: boolean;

            /** RewrapCommand verify. */
            verify: boolean;

            /**
             * Encodes the specified RewrapCommand message. Does not implicitly {@link dekd.v1.RewrapCommand.verify|verify} messages.
             * @param message RewrapCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.RewrapCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a RewrapCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.RewrapCommand & dekd.v1.RewrapCommand.$Shape} RewrapCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.RewrapCommand & dekd.v1.RewrapCommand.$Shape;
        }

        namespace RewrapCommand {

            /** Properties of a RewrapCommand. */
            interface $Properties {

                /** RewrapCommand from */
                from?: (string|null);

                /** RewrapCommand to */
                to?: (string|null);

                /** RewrapCommand name */
                name?: (string|null);

                /** RewrapCommand partition */
                partition?: (string|null);

                /** RewrapCommand cursor */
                cursor?: (string|null);

                /** RewrapCommand limit */
                limit?: (number|null);

                /** RewrapCommand dryRun */
                dryRun?: (boolean|null);

                /** RewrapCommand verify */
                verify?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a RewrapCommand. */
            type $Shape = dekd.v1.RewrapCommand.$Properties;
        }

        /**
         * Properties of a TenantCommand.
         * @deprecated Use dekd.v1.TenantCommand.$Properties instead.
         */
        interface ITenantCommand extends dekd.v1.TenantCommand.$Properties {
        }

        /** Represents a TenantCommand. */
        class TenantCommand {

            /**
             * Constructs a new TenantCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.TenantCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** TenantCommand action. */
            action: string;

            /** TenantCommand tenant. */
            tenant: string;

            /** TenantCommand cursor. */
            cursor: string;

            /**
             * Encodes the specified TenantCommand message. Does not implicitly {@link dekd.v1.TenantCommand.verify|verify} messages.
             * @param message TenantCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.TenantCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a TenantCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.TenantCommand & dekd.v1.TenantCommand.$Shape} TenantCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.TenantCommand & dekd.v1.TenantCommand.$Shape;
        }

        namespace TenantCommand {

            /** Properties of a TenantCommand. */
            interface $Properties {

                /** TenantCommand action */
                action?: (string|null);

                /** TenantCommand tenant */
                tenant?: (string|null);

                /** TenantCommand cursor */
                cursor?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a TenantCommand. */
            type $Shape = dekd.v1.TenantCommand.$Properties;
        }

        /**
         * Properties of a FreezeCommand.
         * @deprecated Use dekd.v1.FreezeCommand.$Properties instead.
         */
        interface IFreezeCommand extends dekd.v1.FreezeCommand.$Properties {
        }

        /** Represents a FreezeCommand. */
        class FreezeCommand {

            /**
             * Constructs a new FreezeCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.FreezeCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** FreezeCommand name. */
            name: string;

            /** FreezeCommand partition. */
            partition: string;

            /** FreezeCommand thaw. */
            thaw: boolean;

            /** FreezeCommand list. */
            list: boolean;

            /**
             * Encodes the specified FreezeCommand message. Does not implicitly {@link dekd.v1.FreezeCommand.verify|verify} messages.
             * @param message FreezeCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.FreezeCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a FreezeCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.FreezeCommand & dekd.v1.FreezeCommand.$Shape} FreezeCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.FreezeCommand & dekd.v1.FreezeCommand.$Shape;
        }

        namespace FreezeCommand {

            /** Properties of a FreezeCommand. */
            interface $Properties {

                /** FreezeCommand name */
                name?: (string|null);

                /** FreezeCommand partition */
                partition?: (string|null);

                /** FreezeCommand thaw */
                thaw?: (boolean|null);

                /** FreezeCommand list */
                list?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a FreezeCommand. */
            type $Shape = dekd.v1.FreezeCommand.$Properties;
        }

        /**
         * Properties of a KeystoresCommand.
         * @deprecated Use dekd.v1.KeystoresCommand.$Properties instead.
         */
        interface IKeystoresCommand extends dekd.v1.KeystoresCommand.$Properties {
        }

        /** Represents a KeystoresCommand. */
        class KeystoresCommand {

            /**
             * Constructs a new KeystoresCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.KeystoresCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** KeystoresCommand action. */
            action: string;

            /** KeystoresCommand cursor. */
            cursor: string;

            /** KeystoresCommand limit. */
            limit: number;

            /**
             * Encodes the specified KeystoresCommand message. Does not implicitly {@link dekd.v1.KeystoresCommand.verify|verify} messages.
             * @param message KeystoresCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.KeystoresCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a KeystoresCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.KeystoresCommand & dekd.v1.KeystoresCommand.$Shape} KeystoresCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.KeystoresCommand & dekd.v1.KeystoresCommand.$Shape;
        }

        namespace KeystoresCommand {

            /** Properties of a KeystoresCommand. */
            interface $Properties {

                /** KeystoresCommand action */
                action?: (string|null);

                /** KeystoresCommand cursor */
                cursor?: (string|null);

                /** KeystoresCommand limit */
                limit?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a KeystoresCommand. */
            type $Shape = dekd.v1.KeystoresCommand.$Properties;
        }

        /**
         * Properties of a PolicyCommand.
         * @deprecated Use dekd.v1.PolicyCommand.$Properties instead.
         */
        interface IPolicyCommand extends dekd.v1.PolicyCommand.$Properties {
        }

        /** Represents a PolicyCommand. */
        class PolicyCommand {

            /**
             * Constructs a new PolicyCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.PolicyCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** PolicyCommand action. */
            action: string;

            /**
             * Encodes the specified PolicyCommand message. Does not implicitly {@link dekd.v1.PolicyCommand.verify|verify} messages.
             * @param message PolicyCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.PolicyCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a PolicyCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.PolicyCommand & dekd.v1.PolicyCommand.$Shape} PolicyCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.PolicyCommand & dekd.v1.PolicyCommand.$Shape;
        }

        namespace PolicyCommand {

            /** Properties of a PolicyCommand. */
            interface $Properties {

                /** PolicyCommand action */
                action?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a PolicyCommand. */
            type $Shape = dekd.v1.PolicyCommand.$Properties;
        }

        /**
         * Properties of an ImportKekCommand.
         * @deprecated Use dekd.v1.ImportKekCommand.$Properties instead.
         */
        interface IImportKekCommand extends dekd.v1.ImportKekCommand.$Properties {
        }

        /** Represents an ImportKekCommand. */
        class ImportKekCommand {

            /**
             * Constructs a new ImportKekCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ImportKekCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ImportKekCommand file. */
            file: string;

            /** ImportKekCommand tenant. */
            tenant: string;

            /** ImportKekCommand service. */
            service: boolean;

            /** ImportKekCommand expectKid. */
            expectKid: string;

            /**
             * Encodes the specified ImportKekCommand message. Does not implicitly {@link dekd.v1.ImportKekCommand.verify|verify} messages.
             * @param message ImportKekCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ImportKekCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an ImportKekCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ImportKekCommand & dekd.v1.ImportKekCommand.$Shape} ImportKekCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ImportKekCommand & dekd.v1.ImportKekCommand.$Shape;
        }

        namespace ImportKekCommand {

            /** Properties of an ImportKekCommand. */
            interface $Properties {

                /** ImportKekCommand file */
                file?: (string|null);

                /** ImportKekCommand tenant */
                tenant?: (string|null);

                /** ImportKekCommand service */
                service?: (boolean|null);

                /** ImportKekCommand expectKid */
                expectKid?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an ImportKekCommand. */
            type $Shape = dekd.v1.ImportKekCommand.$Properties;
        }

        /**
         * Properties of a StatusCommand.
         * @deprecated Use dekd.v1.StatusCommand.$Properties instead.
         */
        interface IStatusCommand extends dekd.v1.StatusCommand.$Properties {
        }

        /** Represents a StatusCommand. */
        class StatusCommand {

            /**
             * Constructs a new StatusCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.StatusCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** StatusCommand brief. */
            brief: boolean;

            /**
             * Encodes the specified StatusCommand message. Does not implicitly {@link dekd.v1.StatusCommand.verify|verify} messages.
             * @param message StatusCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.StatusCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a StatusCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.StatusCommand & dekd.v1.StatusCommand.$Shape} StatusCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.StatusCommand & dekd.v1.StatusCommand.$Shape;
        }

        namespace StatusCommand {

            /** Properties of a StatusCommand. */
            interface $Properties {

                /** StatusCommand brief */
                brief?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a StatusCommand. */
            type $Shape = dekd.v1.StatusCommand.$Properties;
        }

        /**
         * Properties of a MetricsCommand.
         * @deprecated Use dekd.v1.MetricsCommand.$Properties instead.
         */
        interface IMetricsCommand extends dekd.v1.MetricsCommand.$Properties {
        }

        /** Represents a MetricsCommand. */
        class MetricsCommand {

            /**
             * Constructs a new MetricsCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.MetricsCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** MetricsCommand openmetrics. */
            openmetrics: boolean;

            /** MetricsCommand live. */
            live: boolean;

            /**
             * Encodes the specified MetricsCommand message. Does not implicitly {@link dekd.v1.MetricsCommand.verify|verify} messages.
             * @param message MetricsCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.MetricsCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a MetricsCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.MetricsCommand & dekd.v1.MetricsCommand.$Shape} MetricsCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.MetricsCommand & dekd.v1.MetricsCommand.$Shape;
        }

        namespace MetricsCommand {

            /** Properties of a MetricsCommand. */
            interface $Properties {

                /** MetricsCommand openmetrics */
                openmetrics?: (boolean|null);

                /** MetricsCommand live */
                live?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a MetricsCommand. */
            type $Shape = dekd.v1.MetricsCommand.$Properties;
        }

        /**
         * Properties of a WhyCommand.
         * @deprecated Use dekd.v1.WhyCommand.$Properties instead.
         */
        interface IWhyCommand extends dekd.v1.WhyCommand.$Properties {
        }

        /** Represents a WhyCommand. */
        class WhyCommand {

            /**
             * Constructs a new WhyCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.WhyCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** WhyCommand incident. */
            incident: string;

            /**
             * Encodes the specified WhyCommand message. Does not implicitly {@link dekd.v1.WhyCommand.verify|verify} messages.
             * @param message WhyCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.WhyCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a WhyCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.WhyCommand & dekd.v1.WhyCommand.$Shape} WhyCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.WhyCommand & dekd.v1.WhyCommand.$Shape;
        }

        namespace WhyCommand {

            /** Properties of a WhyCommand. */
            interface $Properties {

                /** WhyCommand incident */
                incident?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a WhyCommand. */
            type $Shape = dekd.v1.WhyCommand.$Properties;
        }

        /**
         * Properties of a ListCommand.
         * @deprecated Use dekd.v1.ListCommand.$Properties instead.
         */
        interface IListCommand extends dekd.v1.ListCommand.$Properties {
        }

        /** Represents a ListCommand. */
        class ListCommand {

            /**
             * Constructs a new ListCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ListCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ListCommand name. */
            name: string;

            /** ListCommand partition. */
            partition: string;

            /** ListCommand cursor. */
            cursor: string;

            /** ListCommand limit. */
            limit: number;

            /**
             * Encodes the specified ListCommand message. Does not implicitly {@link dekd.v1.ListCommand.verify|verify} messages.
             * @param message ListCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ListCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a ListCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ListCommand & dekd.v1.ListCommand.$Shape} ListCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ListCommand & dekd.v1.ListCommand.$Shape;
        }

        namespace ListCommand {

            /** Properties of a ListCommand. */
            interface $Properties {

                /** ListCommand name */
                name?: (string|null);

                /** ListCommand partition */
                partition?: (string|null);

                /** ListCommand cursor */
                cursor?: (string|null);

                /** ListCommand limit */
                limit?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a ListCommand. */
            type $Shape = dekd.v1.ListCommand.$Properties;
        }

        /**
         * Properties of a KeyCommand.
         * @deprecated Use dekd.v1.KeyCommand.$Properties instead.
         */
        interface IKeyCommand extends dekd.v1.KeyCommand.$Properties {
        }

        /** Represents a KeyCommand. */
        class KeyCommand {

            /**
             * Constructs a new KeyCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.KeyCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** KeyCommand name. */
            name: string;

            /** KeyCommand partition. */
            partition: string;

            /** KeyCommand version. */
            version: number;

            /** KeyCommand purpose. */
            purpose: string;

            /** KeyCommand emergency. */
            emergency: boolean;

            /**
             * Encodes the specified KeyCommand message. Does not implicitly {@link dekd.v1.KeyCommand.verify|verify} messages.
             * @param message KeyCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.KeyCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a KeyCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.KeyCommand & dekd.v1.KeyCommand.$Shape} KeyCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.KeyCommand & dekd.v1.KeyCommand.$Shape;
        }

        namespace KeyCommand {

            /** Properties of a KeyCommand. */
            interface $Properties {

                /** KeyCommand name */
                name?: (string|null);

                /** KeyCommand partition */
                partition?: (string|null);

                /** KeyCommand version */
                version?: (number|null);

                /** KeyCommand purpose */
                purpose?: (string|null);

                /** KeyCommand emergency */
                emergency?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a KeyCommand. */
            type $Shape = dekd.v1.KeyCommand.$Properties;
        }

        /**
         * Properties of an ExportCommand.
         * @deprecated Use dekd.v1.ExportCommand.$Properties instead.
         */
        interface IExportCommand extends dekd.v1.ExportCommand.$Properties {
        }

        /** Represents an ExportCommand. */
        class ExportCommand {

            /**
             * Constructs a new ExportCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ExportCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ExportCommand cursor. */
            cursor: string;

            /** ExportCommand limit. */
            limit: number;

            /**
             * Encodes the specified ExportCommand message. Does not implicitly {@link dekd.v1.ExportCommand.verify|verify} messages.
             * @param message ExportCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ExportCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an ExportCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ExportCommand & dekd.v1.ExportCommand.$Shape} ExportCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ExportCommand & dekd.v1.ExportCommand.$Shape;
        }

        namespace ExportCommand {

            /** Properties of an ExportCommand. */
            interface $Properties {

                /** ExportCommand cursor */
                cursor?: (string|null);

                /** ExportCommand limit */
                limit?: (number|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an ExportCommand. */
            type $Shape = dekd.v1.ExportCommand.$Properties;
        }

        /**
         * Properties of an ImportCommand.
         * @deprecated Use dekd.v1.ImportCommand.$Properties instead.
         */
        interface IImportCommand extends dekd.v1.ImportCommand.$Properties {
        }

        /** Represents an ImportCommand. */
        class ImportCommand {

            /**
             * Constructs a new ImportCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ImportCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ImportCommand records. */
            records: Uint8Array;

            /** ImportCommand acceptRollback. */
            acceptRollback: boolean;

            /**
             * Encodes the specified ImportCommand message. Does not implicitly {@link dekd.v1.ImportCommand.verify|verify} messages.
             * @param message ImportCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ImportCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes an ImportCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ImportCommand & dekd.v1.ImportCommand.$Shape} ImportCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ImportCommand & dekd.v1.ImportCommand.$Shape;
        }

        namespace ImportCommand {

            /** Properties of an ImportCommand. */
            interface $Properties {

                /** ImportCommand records */
                records?: (Uint8Array|null);

                /** ImportCommand acceptRollback */
                acceptRollback?: (boolean|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of an ImportCommand. */
            type $Shape = dekd.v1.ImportCommand.$Properties;
        }

        /**
         * Properties of a ProveCommand.
         * @deprecated Use dekd.v1.ProveCommand.$Properties instead.
         */
        interface IProveCommand extends dekd.v1.ProveCommand.$Properties {
        }

        /** Represents a ProveCommand. */
        class ProveCommand {

            /**
             * Constructs a new ProveCommand.
             * @param [properties] Properties to set
             */
            constructor(properties?: dekd.v1.ProveCommand.$Properties);

            /** Unknown fields preserved while decoding when enabled */
            $unknowns?: Uint8Array[];

            /** ProveCommand step. */
            step: string;

            /**
             * Encodes the specified ProveCommand message. Does not implicitly {@link dekd.v1.ProveCommand.verify|verify} messages.
             * @param message ProveCommand message or plain object to encode
             * @param [writer] Writer to encode to
             * @returns Writer
             */
            static encode(message: dekd.v1.ProveCommand.$Properties, writer?: $protobuf.Writer): $protobuf.Writer;

            /**
             * Decodes a ProveCommand message from the specified reader or buffer.
             * @param reader Reader or buffer to decode from
             * @param [length] Message length if known beforehand
             * @returns {dekd.v1.ProveCommand & dekd.v1.ProveCommand.$Shape} ProveCommand
             * @throws {Error} If the payload is not a reader or valid buffer
             * @throws {$protobuf.util.ProtocolError} If required fields are missing
             */
            static decode(reader: ($protobuf.Reader|Uint8Array), length?: number): dekd.v1.ProveCommand & dekd.v1.ProveCommand.$Shape;
        }

        namespace ProveCommand {

            /** Properties of a ProveCommand. */
            interface $Properties {

                /** ProveCommand step */
                step?: (string|null);

                /** Unknown fields preserved while decoding when enabled */
                $unknowns?: Uint8Array[];
            }

            /** Shape of a ProveCommand. */
            type $Shape = dekd.v1.ProveCommand.$Properties;
        }
    }
}
