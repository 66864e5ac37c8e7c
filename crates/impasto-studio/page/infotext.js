/** Keyword of the text in a PNG that describes its run to other programs. */
const KEYWORD = "parameters";
/** Length of the signature of a PNG, and of a chunk's length, name and checksum. */
const SIGNATURE = 8, LENGTH = 4, NAME = 4, CHECKSUM = 4;

/**
 * Returns the text in a PNG of the studio that describes its run to other programs; null without one.
 * @param {Blob} png
 */
export async function infotextOf(png) {
  const bytes = new Uint8Array(await png.arrayBuffer());
  const view = new DataView(bytes.buffer);
  for (let at = SIGNATURE; at + LENGTH + NAME <= bytes.length; ) {
    const name = ascii(bytes.subarray(at + LENGTH, at + LENGTH + NAME));
    const data = bytes.subarray(at + LENGTH + NAME, at + LENGTH + NAME + view.getUint32(at));
    const end = data.indexOf(0);
    if ((name === "tEXt" || name === "iTXt") && ascii(data.subarray(0, end)) === KEYWORD) {
      if (name === "tEXt") return Array.from(data.subarray(end + 1), (byte) => String.fromCharCode(byte)).join("");
      // Two bytes about compression, which the studio does not use here, a language and a keyword in it come first.
      const language = data.indexOf(0, end + 3);
      return new TextDecoder().decode(data.subarray(data.indexOf(0, language + 1) + 1));
    }
    at += LENGTH + NAME + data.length + CHECKSUM;
  }
  return null;
}

/** @param {Uint8Array} bytes */
function ascii(bytes) {
  return String.fromCharCode(...bytes);
}
