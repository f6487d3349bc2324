// What goes wrong, in words that tell what to do.

const CAMERA = {
  NotAllowedError: "The camera was not allowed. Allow it in the browser’s address bar, and try again.",
  NotFoundError: "There is no camera on this device. Choose a file instead.",
  NotReadableError: "Another program uses the camera. Close that, and try again.",
  OverconstrainedError: "There is no other camera on this device.",
  InsecureContext: "Browsers lend the camera to secure pages only. Open this page over https, or from localhost.",
};

export function aboutCamera(error) {
  return CAMERA[error.name] ?? `The camera could not be used (${error.message || error.name}).`;
}

export function aboutFile(file) {
  const kind = file.type || "a file of no known kind";
  return `${file.name} (${kind}) could not be read. Choose a picture (JPEG, PNG, WebP) or a video (MP4, WebM).`;
}

export function aboutLoading(title, error) {
  return `${title} could not be loaded. ${error.message}`;
}

export const milliseconds = (value) => (value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} ms`);

export const rate = (value) => (value === null ? "–" : (1000 / value).toFixed(value > 100 ? 1 : 0));

// 5364101 as "5.4 million", 12345 as "12 thousand".
export function roughly(count) {
  if (count >= 1e6) return `${(count / 1e6).toFixed(1)} million`;
  return count >= 1e3 ? `${Math.round(count / 1e3)} thousand` : String(count);
}
