/** An error of the service, as it goes out on the wire. */
export class KmsFault extends Error {
  readonly status: number;
  readonly type: string;
  /** Null where the service says nothing. */
  readonly text: string | null;

  constructor(type: string, text: string | null, status = 400) {
    super(text ?? type);
    this.type = type;
    this.text = text;
    this.status = status;
  }
}
