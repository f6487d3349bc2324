// What the page looks at: a picture, a video or a camera. Each gives frames as ImageData, and the canvas that they lie
// in, for drawing.

// The longest side of a frame, px: browsers give no larger canvas on every device.
const LARGEST = 4096;

class Source {
  constructor(element, width, height) {
    const scale = Math.min(1, LARGEST / Math.max(width, height));
    this.element = element;
    this.canvas = document.createElement("canvas");
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.pen = this.canvas.getContext("2d", { willReadFrequently: true });
  }

  // What is to be seen now.
  read() {
    const { width, height } = this.canvas;
    this.pen.drawImage(this.element, 0, 0, width, height);
    return this.pen.getImageData(0, 0, width, height);
  }

  close() {}
}

export class Picture extends Source {
  isMoving = false;

  // The picture in a file (or another Blob), turned as it says, its colours as they are stored.
  static async open(file) {
    const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
    return new Picture(bitmap, bitmap.width, bitmap.height);
  }

  close() {
    this.element.close();
  }
}

class Moving extends Source {
  isMoving = true;

  constructor(video) {
    super(video, video.videoWidth, video.videoHeight);
  }

  // Waits for the next frame. A page that is hidden is shown none.
  next() {
    return new Promise((resolve) => {
      if (this.element.requestVideoFrameCallback) this.element.requestVideoFrameCallback(resolve);
      else requestAnimationFrame(resolve);
    });
  }

  get isPaused() {
    return this.element.paused;
  }

  async pause(isWanted) {
    if (isWanted) this.element.pause();
    else await this.element.play();
  }
}

export class Video extends Moving {
  static async open(file) {
    const video = silent();
    video.src = URL.createObjectURL(file);
    video.loop = true;
    try {
      await started(video);
    } catch (error) {
      URL.revokeObjectURL(video.src);
      throw error;
    }
    return new Video(video);
  }

  close() {
    this.element.pause();
    URL.revokeObjectURL(this.element.src);
  }
}

export class Camera extends Moving {
  // `facing`: "user" or "environment", where a device has both.
  static async open(facing) {
    if (!navigator.mediaDevices) throw new DOMException("", "InsecureContext");
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: facing }, audio: false });
    const video = silent();
    video.srcObject = stream;
    await started(video);
    return new Camera(video);
  }

  // How many cameras there are; browsers tell once one was allowed.
  static async count() {
    return (await navigator.mediaDevices.enumerateDevices()).filter(({ kind }) => kind === "videoinput").length;
  }

  close() {
    for (const track of this.element.srcObject.getTracks()) track.stop();
    this.element.srcObject = null;
  }
}

function silent() {
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  return video;
}

// Waits until a video shows its first frame; throws where it cannot be played.
async function started(video) {
  await new Promise((resolve, reject) => {
    video.onloadeddata = resolve;
    video.onerror = () => reject(new DOMException("", "EncodingError"));
  });
  await video.play();
}
