import './base.css';
import './view.css';
import './form.css';
import './data.css';
import './clusters.css';
import './jobs.css';
import './experiments.css';
import './lab.css';
