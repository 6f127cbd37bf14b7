// Plays from where a picture is clicked, one sound at a time, and moves a cursor along the picture.
for (const card of document.querySelectorAll('.card')) {
  const audio = card.querySelector('audio'), drawing = card.querySelector('svg'),
    cursor = card.querySelector('.cursor');
  const width = drawing.viewBox.baseVal.width;
  const move = () => {
    const x = width * audio.currentTime / (audio.duration || 1);
    cursor.setAttribute('x1', x); cursor.setAttribute('x2', x); cursor.style.opacity = 1;
    if (!audio.paused) requestAnimationFrame(move);
  };
  audio.addEventListener('play', () => {
    for (const other of document.querySelectorAll('audio')) if (other !== audio) other.pause();
    move();
  });
  audio.addEventListener('seeked', move);
  drawing.addEventListener('click', event => {
    const box = drawing.getBoundingClientRect();
    audio.currentTime = (event.clientX - box.left) / box.width * (audio.duration || 0);
    audio.play();
  });
}
