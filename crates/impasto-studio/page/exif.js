/** Tags of EXIF: the place of the block of EXIF, and a comment of the user. */
const EXIF = 0x8769, USER_COMMENT = 0x9286;
/** Types of EXIF: a whole number of 32 bits, and bytes of any meaning. */
const LONG = 4, UNDEFINED = 7;
/** Longest text in bytes that fits into a segment of a JPEG beside the rest of the block. */
const LONGEST = 65_000;
/** Bit of a WebP's header that tells of EXIF. */
const HAS_EXIF = 0x08;

/**
 * Returns a JPEG or WebP with a comment in its EXIF metadata, where other programs look for the settings of a run.
 * @param {Blob} picture
 * @param {string} text
 * @param {{width: number, height: number}} size
 */
export async function withComment(picture, text, size) {
  const bytes = new Uint8Array(await picture.arrayBuffer());
  const block = blockOf(text.slice(0, LONGEST / 2));
  const parts = picture.type === "image/jpeg" ? jpegWith(bytes, block) : webpWith(bytes, block, size);
  return new Blob(parts, { type: picture.type });
}

/**
 * Returns a block of EXIF: a directory that leads to a second one, which has the comment.
 * @param {string} text
 */
function blockOf(text) {
  const start = 44; // after the header, two directories of one entry each, and the mark of Unicode
  const block = new Uint8Array(start + 8 + 2 * text.length);
  const view = new DataView(block.buffer);
  view.setUint16(0, 0x4d4d); // the larger byte of a number comes first
  view.setUint16(2, 42);
  view.setUint32(4, 8);
  entry(view, 8, EXIF, LONG, 1, 26);
  entry(view, 26, USER_COMMENT, UNDEFINED, 8 + 2 * text.length, start);
  block.set(new TextEncoder().encode("UNICODE\0"), start);
  for (let at = 0; at < text.length; at++) view.setUint16(start + 8 + 2 * at, text.charCodeAt(at));
  return block;
}

/**
 * Writes a directory of one entry.
 * @param {DataView} view
 * @param {number} at
 * @param {number} tag
 * @param {number} type
 * @param {number} count
 * @param {number} value
 */
function entry(view, at, tag, type, count, value) {
  view.setUint16(at, 1);
  view.setUint16(at + 2, tag);
  view.setUint16(at + 4, type);
  view.setUint32(at + 6, count);
  view.setUint32(at + 10, value);
}

/**
 * Returns a JPEG with a block of EXIF in a segment after its first mark.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {Uint8Array<ArrayBuffer>} block
 */
function jpegWith(bytes, block) {
  const name = new TextEncoder().encode("Exif\0\0");
  const head = new DataView(new ArrayBuffer(4));
  head.setUint16(0, 0xffe1);
  head.setUint16(2, 2 + name.length + block.length);
  return [bytes.subarray(0, 2), head, name, block, bytes.subarray(2)];
}

/**
 * Returns a WebP with a block of EXIF after its picture. A plain WebP gets the header of an extended one.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {Uint8Array<ArrayBuffer>} block
 * @param {{width: number, height: number}} size
 */
function webpWith(bytes, block, { width, height }) {
  const isExtended = String.fromCharCode(...bytes.subarray(12, 16)) === "VP8X";
  const header = isExtended ? bytes.slice(20, 30) : new Uint8Array(10);
  const view = new DataView(header.buffer);
  header[0] |= HAS_EXIF;
  if (!isExtended) {
    // Both sides less one, in three bytes each, the smallest first.
    [width - 1, height - 1].forEach((side, index) => {
      view.setUint16(4 + 3 * index, side & 0xffff, true);
      view.setUint8(6 + 3 * index, side >> 16);
    });
  }
  const parts = [...chunk("VP8X", header), bytes.subarray(isExtended ? 30 : 12), ...chunk("EXIF", block)];
  const length = parts.reduce((sum, { byteLength }) => sum + byteLength, 4);
  const riff = new DataView(new ArrayBuffer(12));
  [..."RIFF\0\0\0\0WEBP"].forEach((letter, at) => riff.setUint8(at, letter.charCodeAt(0)));
  riff.setUint32(4, length, true);
  return [riff, ...parts];
}

/**
 * Returns a chunk of a WebP. Chunks have an even number of bytes.
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} data
 */
function chunk(name, data) {
  const head = new DataView(new ArrayBuffer(8));
  [...name].forEach((letter, at) => head.setUint8(at, letter.charCodeAt(0)));
  head.setUint32(4, data.length, true);
  return [head, data, new Uint8Array(data.length % 2)];
}
